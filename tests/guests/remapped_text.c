/* A program's own text, mapped and unmapped again and again. Nothing of it may pile up, and what is
 * left of a text, or of a call from it, works as before. */
#include "guest.h"
#include <elf.h>
#include <pthread.h>
#include <sys/mman.h>

enum { ROUNDS = 4000, AT_ONCE = 100, APART = 65536, SIZE = 2 * APART };

/* Calls that do not depend on where their code lies, each on pages of its own. */
long near_call(long number, long a, void *b, long c);
long far_call(long number, long a, void *b, long c);
#ifdef __x86_64__
#define CALL "mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; mov %rcx, %rdx; syscall; ret;"
#else
#define CALL "mov x8, x0; mov x0, x1; mov x1, x2; mov x2, x3; svc #0; ret;"
#endif
__asm__(".text; .balign 65536; near_call:" CALL ".balign 65536; far_call:" CALL ".balign 65536;");
typedef long (*caller)(long number, long a, void *b, long c);

static int self;
static off_t text;

/* Where near_call lies in the program's file. */
static void find_text(void)
{
    extern const Elf64_Ehdr __ehdr_start;
    const Elf64_Phdr *segment = (void *)((char *)&__ehdr_start + __ehdr_start.e_phoff), *first = NULL;
    for (int i = 0; i < __ehdr_start.e_phnum; i++, segment++) {
        if (segment->p_type != PT_LOAD)
            continue;
        if (!first)
            first = segment;
        size_t address = (char *)near_call - (char *)&__ehdr_start + first->p_vaddr;
        if (address - segment->p_vaddr < segment->p_filesz)
            text = segment->p_offset + address - segment->p_vaddr;
    }
    self = NEED(open("/proc/self/exe", O_RDONLY));
}

static char *map_at(char *at, size_t size, int flags)
{
    return mmap(at, size, PROT_READ | PROT_EXEC, MAP_PRIVATE | flags, self, text);
}

static char *map_text(void)
{
    char *at = map_at(NULL, SIZE, 0);
    NEED((long)at);
    return at;
}

static int near_works(char *at)
{
    return ((caller)at)(SYS_getpid, 0, NULL, 0) == getpid();
}

static int far_works(char *at)
{
    return ((caller)(at + APART))(SYS_getpid, 0, NULL, 0) == getpid();
}

/* Map so many that whatever is not in use is found out. */
static int many_at_once(void)
{
    char *at[AT_ONCE];
    int failed = 0;
    for (int i = 0; i < AT_ONCE; i++)
        failed += (at[i] = map_at(NULL, SIZE, 0)) == MAP_FAILED;
    for (int i = 0; i < AT_ONCE; i++)
        failed += at[i] == MAP_FAILED || munmap(at[i], SIZE);
    return failed;
}

static void one_by_one(void)
{
    int failed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char *at = map_at(NULL, SIZE, 0);
        failed += at == MAP_FAILED || munmap(at, SIZE);
    }
    say("%d rounds, %d failed", ROUNDS, failed);
    failed = 0;
    for (int round = 0; round < 5; round++) {
        failed += many_at_once();
        /* The next ones lie elsewhere. */
        failed += mmap(NULL, APART, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
    }
    say("%d at once, %d failed", AT_ONCE, failed);
}

static void in_part(void)
{
    char *half = map_text(), *replaced = map_text(), *covered = map_text();
    TRUE(near_works(half) && far_works(half));
    NEED(munmap(half, APART));
    TRUE(map_at(replaced, APART, MAP_FIXED) == replaced);
    int data = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    TRUE(mmap(covered, APART, PROT_READ | PROT_WRITE, data, -1, 0) == covered);
    TRUE(many_at_once() == 0);
    TRUE(far_works(half));
    TRUE(near_works(replaced));
    TRUE(far_works(replaced));
    TRUE(far_works(covered));
    TRUE(map_at(half, APART, MAP_FIXED) == half);
    TRUE(near_works(half) && far_works(half));
    munmap(half, SIZE);
    munmap(replaced, SIZE);
    munmap(covered, SIZE);
}

static void hidden(void)
{
    char *at = map_text();
    NEED(mprotect(at, SIZE, PROT_NONE));
    TRUE(many_at_once() == 0);
    NEED(mprotect(at, SIZE, PROT_READ | PROT_EXEC));
    TRUE(near_works(at) && far_works(at));
    munmap(at, SIZE);
}

static int ends[2];

static void *reads(void *at)
{
    char byte = 0;
    long got = ((caller)((char *)at + APART))(SYS_read, ends[0], &byte, 1);
    return (void *)(got == 1 && byte == '!' ? 1L : 0L);
}

/* A thread is inside a call from text that goes away and comes back. */
static void within_a_call(void)
{
    pthread_t thread;
    void *result;
    char *at = map_text();
    NEED(pipe(ends));
    pthread_create(&thread, NULL, reads, at);
    nap_ms(20);
    TRUE(map_at(at, SIZE, MAP_FIXED) == at);
    NEED(munmap(at, SIZE));
    TRUE(many_at_once() == 0);
    TRUE(map_at(at, SIZE, MAP_FIXED) == at);
    NEED(write(ends[1], "!", 1));
    pthread_join(thread, &result);
    TRUE(result);
    munmap(at, SIZE);
}

static void in_a_child(void)
{
    char *kept = map_text(), *gone = map_text();
    pid_t child = fork();
    if (!child) {
        munmap(gone, SIZE);
        int failed = many_at_once();
        _exit(failed || !near_works(kept) ? 1 : 0);
    }
    reap("child", child);
    TRUE(far_works(kept) && far_works(gone));
    munmap(kept, SIZE);
    munmap(gone, SIZE);
}

int main(void)
{
    find_text();
    one_by_one();
    in_part();
    hidden();
    within_a_call();
    in_a_child();
    return 0;
}
