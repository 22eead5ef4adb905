/* mmap and its relatives. */
#include "guest.h"
#include "probe.h"
#include <sys/mman.h>

static void anonymous(void)
{
    char *a = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(a != MAP_FAILED && (uintptr_t)a % 4096 == 0);
    int zero = 1;
    for (int i = 0; i < 5 * 4096; i++)
        zero &= !a[i];
    SHOW(zero);
    memset(a, 'x', 5 * 4096);
    SHOW(mprotect(a + 4096, 4096, PROT_READ));
    SHOW(mprotect(a + 2 * 4096, 4096, PROT_NONE));
    SHOW(munmap(a + 3 * 4096, 4096));
    say("pages %c%c%c%c%c", probe(a), probe(a + 4096), probe(a + 8192), probe(a + 12288), probe(a + 16384));
    SHOW(mprotect(a, 5 * 4096, PROT_READ | PROT_WRITE));
    SHOW(syscall(SYS_mprotect, a + 1, 4096, PROT_READ));
    SHOW(munmap(a + 1, 4096));
    SHOW(munmap(a + 3 * 4096, 4096));
    SHOW(munmap(a, 0));
    char *b = mmap(a + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    TRUE(b == a + 4096 && b[0] == 0 && a[0] == 'x');
#ifdef MAP_FIXED_NOREPLACE
    TRUE(mmap(a, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
#else
    say("mmap(a, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED: yes");
#endif
    SHOW(munmap(a, 5 * 4096));
    say("page %c", probe(a));
    TRUE(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    TRUE(mmap(NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    TRUE(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0) == MAP_FAILED && errno == EBADF);
    char *low = mmap((void *)0x20000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(low == (char *)0x20000000); /* a hint that is free is honoured */
    char *high = mmap((void *)0x123400000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(high == (char *)0x123400000000);
    char *reserve = mmap(NULL, 1L << 36, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TRUE(reserve != MAP_FAILED);
    SHOW(mprotect(reserve + (1L << 35), 4096, PROT_READ | PROT_WRITE));
    say("page %c", probe(reserve + (1L << 35)));
    SHOW(munmap(reserve, 1L << 36));
}

static void files(void)
{
    put("f", "0123456789");
    int fd = NEED(open("f", O_RDWR));
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    p[0] = 'P';
    s[1] = 'S';
    SHOW(msync(s, 4096, MS_SYNC));
    cat("f");
    say("private %.3s shared %.3s, tail %d", p, s, s[10]);
    pwrite(fd, "W", 1, 2);
    say("shared sees writes: %c", s[2]);
    close(fd);
    s[3] = 'K';
    cat("f");
    int ro = NEED(open("f", O_RDONLY));
    TRUE(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
    char *r = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    SHOW(mprotect(r, 4096, PROT_READ | PROT_WRITE));
    TRUE(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, ro, 100) == MAP_FAILED && errno == EINVAL);
    int dir = NEED(open(".", O_RDONLY));
    TRUE(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, dir, 0) == MAP_FAILED && errno == ENODEV);
    int big = NEED(open("big", O_RDWR | O_CREAT, 0600));
    ftruncate(big, 3 * 4096);
    pwrite(big, "third", 5, 2 * 4096);
    char *third = mmap(NULL, 4096, PROT_READ, MAP_SHARED, big, 2 * 4096);
    say("%s", third);
    char *grown = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, big, 0);
    ftruncate(big, 8 * 4096);
    strcpy(grown + 7 * 4096, "past the old end");
    char text[32] = "";
    pread(big, text, 16, 7 * 4096);
    say("%s", text);
}

static void across_fork(void)
{
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *shared = *own = 1;
    pid_t child = NEED(fork());
    if (!child) {
        *shared = *own = 2;
        _exit(0);
    }
    reap("child", child);
    say("shared %d own %d", *shared, *own);
    SHOW(madvise(own, 4096, MADV_DONTFORK));
    child = NEED(fork());
    if (!child)
        _exit(probe((char *)own) == '-');
    reap("not forked", child);
}

static void moving(void)
{
    char *a = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(a, "moved");
    char *b = mremap(a, 4 * 4096, 400 * 4096, MREMAP_MAYMOVE);
    TRUE(b != MAP_FAILED && !strcmp(b, "moved") && b[399 * 4096] == 0);
    char *c = mremap(b, 400 * 4096, 2 * 4096, 0);
    TRUE(c == b);
    say("pages %c%c", probe(c + 4096), probe(c + 2 * 4096));
    char *target = mmap(NULL, 4 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *d = mremap(c, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    TRUE(d == target && !strcmp(d, "moved"));
    say("old place %c", probe(c));
    TRUE(mremap(d, 2 * 4096, 3 * 4096, 0) == MAP_FAILED && errno == ENOMEM); /* target's rest is in the way */
    TRUE(mremap((void *)0x1000, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    strcpy(d + 4096, "dropped");
    SHOW(madvise(d + 4096, 4096, MADV_DONTNEED));
    SHOW(d[4096]);
    SHOW(madvise(d, 4096, MADV_WILLNEED));
    SHOW(madvise(d, 4096, 9999));
    unsigned char in_core[2];
    SHOW(mincore(d, 4096, in_core));
    SHOW(mlock(d, 4096));
    SHOW(munlock(d, 4096));
}

static void heap(void)
{
    char *end = (char *)syscall(SYS_brk, 0); /* musl's sbrk always fails */
    TRUE(syscall(SYS_brk, end + 10000) == (long)(end + 10000));
    memset(end, 1, 10000);
    TRUE(syscall(SYS_brk, end) == (long)end);
    TRUE(syscall(SYS_brk, 16) == (long)end); /* below the heap: refused, the end comes back */
    char *blocks[200];
    unsigned sum = 0;
    for (int i = 0; i < 200; i++)
        memset(blocks[i] = malloc(i * 997 + 1), i, i * 997 + 1);
    for (int i = 0; i < 200; i++) {
        sum += (unsigned char)blocks[i][i * 997];
        free(blocks[i]);
    }
    SHOW(sum);
}

static void memfds(void)
{
    int fd = OK(syscall(SYS_memfd_create, "name", 2 /* MFD_ALLOW_SEALING */));
    SHOW(ftruncate(fd, 8192));
    char *a = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    strcpy(a, "in memory");
    char text[16] = "";
    SHOW(pread(fd, text, 9, 0));
    say("%s", text);
    SHOW(fcntl(fd, 1033 /* F_ADD_SEALS */, 2 /* SHRINK */));
    SHOW(ftruncate(fd, 0));
    SHOW(fcntl(fd, 1034 /* F_GET_SEALS */));
    SHOW(fcntl(fd, 1033, 8 /* WRITE */));
    munmap(a, 8192);
    SHOW(fcntl(fd, 1033, 8));
    SHOW(write(fd, "x", 1));
    TRUE(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
}

int main(void)
{
    struct sigaction action = {.sa_handler = jumps};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    scratch();
    anonymous();
    files();
    across_fork();
    moving();
    heap();
    memfds();
    return 0;
}
