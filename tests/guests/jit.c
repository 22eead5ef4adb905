/* Code written at run time that makes system calls: nothing has seen it before it runs. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>

#ifdef __x86_64__
/* mov eax, 39; syscall; ret */
static const unsigned char get_pid[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3};
/* mov eax, 1000; syscall; ret */
static const unsigned char unknown[] = {0xb8, 0xe8, 3, 0, 0, 0x0f, 0x05, 0xc3};
/* xor eax, eax; mov al, 110; syscall; ret */
static const unsigned char get_ppid[] = {0x31, 0xc0, 0xb0, 110, 0x0f, 0x05, 0xc3};
/* mov eax, edi; jmp over; syscall (jumped to from below); ret; over: jmp back */
static const unsigned char jumped_to[] = {0xb8, 39, 0, 0, 0, 0xeb, 3, 0x0f, 0x05, 0xc3, 0xeb, 0xfb};
#else
/* mov x8, #172; svc #0; ret */
static const unsigned char get_pid[] = {0x88, 0x15, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6};
static const unsigned char unknown[] = {0x08, 0x7d, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6};
/* mov x8, #173; svc #0; ret */
static const unsigned char get_ppid[] = {0xa8, 0x15, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6};
#define jumped_to get_pid
#endif

typedef long (*function)(void);

static void flush(void *at, size_t size) { __builtin___clear_cache(at, (char *)at + size); }

static void *in_thread(void *code)
{
    long last = 0;
    for (int i = 0; i < 2000; i++)
        last = ((function)code)();
    return (void *)last;
}

int main(void)
{
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, get_pid, sizeof get_pid);
    memcpy(code + 64, unknown, sizeof unknown);
    memcpy(code + 128, get_ppid, sizeof get_ppid);
    memcpy(code + 192, jumped_to, sizeof jumped_to);
    SHOW(mprotect(code, 4096, PROT_READ | PROT_EXEC));
    flush(code, 4096);
    TRUE(((function)code)() == getpid());
    say("an unknown number gives %ld", ((function)(code + 64))());
    TRUE(((function)(code + 128))() == getppid());
    TRUE(((function)(code + 192))() == getpid());
    int wrong = 0;
    for (int i = 0; i < 20000; i++)
        wrong += ((function)code)() != getpid();
    say("wrong answers in 20000: %d", wrong);
    TRUE(!memcmp(code, get_pid, sizeof get_pid)); /* nobody changes what the program wrote */

    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, in_thread, code);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result != getpid();
    }
    say("wrong in threads: %d", wrong);

    /* Rewritten: the new code must run. */
    SHOW(mprotect(code, 4096, PROT_READ | PROT_WRITE));
    memcpy(code, get_ppid, sizeof get_ppid);
    SHOW(mprotect(code, 4096, PROT_READ | PROT_EXEC));
    flush(code, 4096);
    TRUE(((function)code)() == getppid());

    unsigned char *open_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(open_code != MAP_FAILED);
    for (int i = 0; i < 300; i++) {
        const unsigned char *bytes = i % 2 ? get_pid : get_ppid;
        memcpy(open_code, bytes, i % 2 ? sizeof get_pid : sizeof get_ppid);
        flush(open_code, 64);
        wrong += ((function)open_code)() != (i % 2 ? getpid() : getppid());
    }
    say("wrong after rewriting: %d", wrong);

    /* Code in a shared file mapping. */
    int fd = NEED(syscall(SYS_memfd_create, "code", 0));
    NEED(ftruncate(fd, 4096));
    unsigned char *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *runnable = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    for (int i = 0; i < 100; i++) {
        const unsigned char *bytes = i % 2 ? get_pid : get_ppid;
        memcpy(writable, bytes, i % 2 ? sizeof get_pid : sizeof get_ppid);
        flush(runnable, 64);
        wrong += ((function)runnable)() != (i % 2 ? getpid() : getppid());
    }
    say("wrong through a double mapping: %d", wrong);

    pid_t child = NEED(fork());
    if (!child)
        _exit(((function)runnable)() == getpid() ? 0 : 1);
    reap("child", child);
    return 0;
}
