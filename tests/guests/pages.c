/* The page size and everything that counts in pages, whatever the size is. */
#include "guest.h"
#include "probe.h"
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define BOTH (PROT_READ | PROT_WRITE)

static size_t page;

/* The same for the first and last byte of each of the first pages. */
static const char *probes(char *start, int pages)
{
    static char text[64];
    for (int i = 0; i < pages; i++) {
        text[2 * i] = probe(start + i * page);
        text[2 * i + 1] = probe(start + (i + 1) * page - 1);
    }
    text[2 * pages] = 0;
    return text;
}

static char *fresh(int pages)
{
    char *got = mmap(NULL, pages * page, BOTH, ANONYMOUS, -1, 0);
    if (got == MAP_FAILED)
        exit(99);
    memset(got, 'x', pages * page);
    return got;
}

static long placed(void *result, void *wanted)
{
    return result == MAP_FAILED ? -1 : result == wanted;
}

static void sizes(void)
{
    page = sysconf(_SC_PAGESIZE);
    TRUE(page >= 4096 && !(page & (page - 1)));
    TRUE(getauxval(AT_PAGESZ) == page && (size_t)getpagesize() == page);
    int aligned = 1;
    for (int i = 0; i < 8; i++)
        aligned &= (uintptr_t)mmap(NULL, 1 + i * 1000, PROT_READ, ANONYMOUS, -1, 0) % page == 0;
    SHOW(aligned);
    FILE *maps = fopen("/proc/self/maps", "r");
    for (char line[512]; fgets(line, sizeof line, maps);) {
        unsigned long start, end;
        /* x86_64: [vsyscall] is one page at the top. */
        if (sscanf(line, "%lx-%lx", &start, &end) != 2 || start % page || end % page)
            say("not whole pages: %s", line);
    }
    fclose(maps);
    char text[64];
    int fd = NEED(open("/proc/self/statm", O_RDONLY));
    text[read(fd, text, sizeof text - 1)] = 0;
    close(fd);
    size_t kib = 0, pages = strtoul(text, NULL, 10);
    FILE *status = fopen("/proc/self/status", "r");
    for (char line[256]; fgets(line, sizeof line, status);)
        sscanf(line, "VmSize: %zu kB", &kib);
    fclose(status);
    TRUE(kib * 1024 / page >= pages - pages / 4 && kib * 1024 / page <= pages + pages / 4);
}

static void fixed(void)
{
    char *a = fresh(4);
    SHOW(placed(mmap(a + page / 2, page, BOTH, ANONYMOUS | MAP_FIXED, -1, 0), a));
    SHOW(placed(mmap(a + page / 2, page, BOTH, ANONYMOUS | 0x100000, -1, 0), a));
    SHOW(placed(mmap(a + page, page, BOTH, ANONYMOUS | 0x100000, -1, 0), a));
    SHOW(placed(mmap(a + page, 1, BOTH, ANONYMOUS | MAP_FIXED, -1, 0), a + page));
    say("replaced: %d %d %d", a[page - 1], a[page], a[2 * page - 1]);
    SHOW(placed(mmap(NULL, 0, BOTH, ANONYMOUS, -1, 0), a));
    SHOW(placed(mmap(NULL, -1UL, BOTH, ANONYMOUS, -1, 0), a));
    SHOW(munmap(a, 4 * page));
    SHOW(placed(mmap(a + page, page, BOTH, ANONYMOUS | 0x100000, -1, 0), a + page));
    SHOW(placed(mmap(a + 2 * page + page / 2, page, BOTH, ANONYMOUS, -1, 0), a + 2 * page));
    SHOW(munmap(a + page, 2 * page));
}

static void parts(void)
{
    char *a = fresh(6);
    SHOW(munmap(a + page / 2, page));
    SHOW(munmap(a + 5 * page, page / 2));
    say("unmapped: %s", probes(a, 6));
    SHOW(syscall(SYS_mprotect, a + page / 2, page, PROT_READ));
    SHOW(mprotect(a + 4 * page, 1, PROT_READ));
    SHOW(mprotect(a + 3 * page, 0, PROT_NONE));
    say("protected: %s", probes(a, 6));
    SHOW(madvise(a + page / 2, page / 2, MADV_DONTNEED));
    SHOW(madvise(a + page, 1, MADV_DONTNEED));
    SHOW(madvise(a + page, 0, MADV_DONTNEED));
    say("cleared: %d %d %d %d", a[page - 1], a[page], a[2 * page - 1], a[2 * page]);
    SHOW(msync(a + page / 2, page / 2, MS_ASYNC));
    SHOW(msync(a, 1, MS_ASYNC));
    SHOW(msync(a + 4 * page, page + 1, MS_ASYNC));
    unsigned char in[4] = {9, 9, 9, 9};
    SHOW(mincore(a + page / 2, page / 2, in));
    a[0] = a[page] = 1;
    SHOW(mincore(a, page + 1, in));
    say("in core: %d %d, then %d", in[0] & 1, in[1] & 1, in[2]);
    SHOW(mincore(a + 4 * page, 2 * page, in));
    SHOW(mlock(a + page / 2, page));
    SHOW(munlock(a + 1, page));
    SHOW(mlock(a + 4 * page + 1, page));
    SHOW(munmap(a, 6 * page));
}

static void moving(void)
{
    char *a = fresh(4);
    SHOW(placed(mremap(a + page / 2, page, page, 0), a));
    SHOW(placed(mremap(a, page, 0, 0), a));
    SHOW(placed(mremap(a, 4 * page, 2 * page + 1, 0), a));
    say("shrunk: %s", probes(a, 4));
    SHOW(placed(mremap(a, page + 1, page + 2, 0), a));
    SHOW(placed(mremap(a, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, a + 5 * page + 1), a));
    char *b = mremap(a, 3 * page, 33 * page, MREMAP_MAYMOVE);
    TRUE(b != MAP_FAILED && (uintptr_t)b % page == 0 && b[3 * page - 1] == 'x' && !b[3 * page]);
    char *fence = mmap(b + 2 * page, page, PROT_NONE, ANONYMOUS | MAP_FIXED, -1, 0);
    TRUE(fence == b + 2 * page);
    SHOW(placed(mremap(b, 2 * page, 3 * page, 0), b));
    char *c = mremap(b, 2 * page, 3 * page, MREMAP_MAYMOVE);
    TRUE(c != MAP_FAILED && c != b && (uintptr_t)c % page == 0 && c[0] == 'x' && !c[3 * page - 1]);
    say("old place: %c", probe(b));
}

static void files(void)
{
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(ftruncate(fd, 2 * page + 10));
    NEED(pwrite(fd, "first", 5, 0));
    NEED(pwrite(fd, "second", 6, page));
    NEED(pwrite(fd, "0123456789", 10, 2 * page));
    char *second = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, page);
    say("file mapping of second page: %s", second);
    SHOW(placed(mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, page / 2), fd));
    SHOW(placed(mmap(NULL, page, PROT_READ, MAP_PRIVATE, 99, page / 2), fd));
    SHOW(placed(mmap(NULL, page, PROT_READ, MAP_PRIVATE, 99, 0), fd));
    char *all = mmap(NULL, 4 * page, BOTH, MAP_PRIVATE, fd, 0);
    TRUE(all != MAP_FAILED && !strcmp(all + page, "second"));
    say("the end of the file: %.10s then %d %d", all + 2 * page, all[2 * page + 10], all[3 * page - 1]);
    say("pages: %s", probes(all, 4));
    all[page] = 'S';
    SHOW(madvise(all + page, 6, MADV_DONTNEED));
    say("the file's again: %s", all + page);
    char *code = mmap(NULL, 2 * page + 10, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    TRUE(code != MAP_FAILED && !strcmp(code, "first") && !code[3 * page - 1]);
    char *shared = mmap(NULL, 2 * page, BOTH, MAP_SHARED, fd, 0);
    strcpy(shared + page, "shared");
    SHOW(msync(shared + page, 1, MS_SYNC));
    char text[8] = "";
    pread(fd, text, 6, page);
    say("written: %s", text);
    SHOW(munmap(shared, 1));
    say("half: %s", probes(shared, 2));
    close(fd);
    int empty = NEED(open("empty", O_RDWR | O_CREAT, 0600));
    char *none = mmap(NULL, page, PROT_READ, MAP_PRIVATE, empty, 0);
    say("of an empty file: %s", probes(none, 1));
    close(empty);
}

static void heap(void)
{
    char *start = (char *)syscall(SYS_brk, 0);
    char *first = (char *)(((uintptr_t)start + page - 1) & -page);
    TRUE(syscall(SYS_brk, first + 1) == (long)(first + 1));
    first[page - 1] = 'x';
    say("heap: %s", probes(first, 2));
    TRUE(syscall(SYS_brk, first + page) == (long)(first + page));
    SHOW(first[page - 1]);
    /* What is right behind it is in the way. */
    TRUE(mmap(first + 2 * page, page, BOTH, ANONYMOUS | MAP_FIXED, -1, 0) == first + 2 * page);
    first[2 * page] = 'k';
    TRUE(syscall(SYS_brk, first + 2 * page + 1) == (long)(first + page));
    TRUE(syscall(SYS_brk, first + 9 * page) == (long)(first + page));
    say("heap: %s, kept %c", probes(first, 4), first[2 * page]);
    SHOW(munmap(first + 2 * page, page));
    TRUE(syscall(SYS_brk, first + 3 * page) == (long)(first + 3 * page));
    SHOW(first[2 * page]);
    TRUE(syscall(SYS_brk, first + 1) == (long)(first + 1));
    say("heap: %s", probes(first, 3));
    TRUE(syscall(SYS_brk, start) == (long)start);
}

static void segments(void)
{
    int id = NEED(shmget(IPC_PRIVATE, page + 1, IPC_CREAT | 0600));
    char *a = shmat(id, NULL, 0);
    TRUE(a != (void *)-1 && (uintptr_t)a % page == 0);
    say("segment: %s", probes(a, 2));
    char *b = fresh(4);
    SHOW(placed(shmat(id, b + 1, 0), b));
    munmap(b, 4 * page);
    SHOW(placed(shmat(id, b + page + 1, SHM_RND), b + page));
    SHOW(shmdt(b + page));
    SHOW(shmdt(a));
    SHOW(shmctl(id, IPC_RMID, NULL));
}

static void stack(void)
{
    char here;
    char *top = (char *)((uintptr_t)&here & -page);
    SHOW(mprotect(top, page, BOTH));
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    for (char line[512]; fgets(line, sizeof line, maps);) {
        unsigned long start, end;
        sscanf(line, "%lx-%lx", &start, &end);
        found += strstr(line, "[stack]") && start <= (uintptr_t)top && (uintptr_t)top + page <= end;
    }
    fclose(maps);
    SHOW(found);
}

static void pipes(void)
{
    int fds[2];
    NEED(pipe(fds));
    SHOW(fcntl(fds[0], F_SETPIPE_SZ, 1) / (long)page);
    SHOW(fcntl(fds[0], F_SETPIPE_SZ, page + 1) / (long)page);
    SHOW(fcntl(fds[0], F_GETPIPE_SZ) / (long)page);
    SHOW(PIPE_BUF);
}

int main(void)
{
    struct sigaction action = {.sa_handler = jumps};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    scratch();
    sizes();
    fixed();
    parts();
    moving();
    files();
    heap();
    segments();
    stack();
    pipes();
    return 0;
}
