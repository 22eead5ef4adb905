/* Faults: the handler learns the address and the reason, and can repair or jump away. */
#include "guest.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int seen_signal, seen_code, depth;
static void *volatile seen_address;
static char *page;

static void jumps(int number, siginfo_t *info, void *context)
{
    (void)context;
    seen_signal = number;
    seen_code = info->si_code;
    seen_address = info->si_addr;
    siglongjmp(back, 1);
}

static void repairs(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    seen_address = info->si_addr;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void skips(int number, siginfo_t *info, void *context)
{
    ucontext_t *c = context;
    (void)info;
    seen_signal = number;
#ifdef __x86_64__
    c->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
    c->uc_mcontext.gregs[REG_RAX] = 1234;
#else
    c->uc_mcontext.pc += 4; /* udf */
    c->uc_mcontext.regs[0] = 1234;
#endif
}

static void install(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(number, &action, NULL);
}

static const char *code_name(void)
{
    if (seen_signal == SIGSEGV)
        return seen_code == SEGV_MAPERR ? "MAPERR" : seen_code == SEGV_ACCERR ? "ACCERR" : "?";
    if (seen_signal == SIGFPE)
        return seen_code == FPE_INTDIV ? "INTDIV" : "?";
    if (seen_signal == SIGBUS)
        return seen_code == BUS_ADRERR ? "ADRERR" : "?";
    return "-";
}

#define FAULT(what, statement) do { \
    seen_signal = 0; seen_address = NULL; \
    if (!sigsetjmp(back, 1)) { statement; say("%s: no fault", what); } \
    else say("%s: %s %s", what, signal_name(seen_signal), code_name()); } while (0)

#ifdef __x86_64__
#define ILLEGAL __builtin_trap()
#else
#define ILLEGAL __asm__ volatile("udf #0") /* __builtin_trap is a breakpoint here */
#endif

static volatile int zero, sink;

static int recurse(int n)
{
    volatile char space[4096];
    space[0] = (char)n;
    depth = n;
    return recurse(n + 1) + space[0];
}

int main(void)
{
    scratch();
    page = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    install(SIGSEGV, jumps, 0);
    install(SIGBUS, jumps, 0);
    install(SIGFPE, jumps, 0);
    install(SIGILL, jumps, 0);
    FAULT("read at 16", sink = *(volatile int *)16);
    TRUE(seen_address == (void *)16);
    FAULT("write to a page without access", page[100] = 1);
    TRUE(seen_address == page + 100);
    mprotect(page, 4096, PROT_READ);
    FAULT("read of a readable page", sink = page[5]);
    FAULT("write to a readable page", page[5] = 1);
    TRUE(seen_address == page + 5);
    FAULT("jump into data", ((void (*)(void))(uintptr_t)page)());
    TRUE(seen_address == page);
    FAULT("write to text", *(volatile char *)(uintptr_t)main = 0);
    munmap(page + 4096, 4096);
    FAULT("read of unmapped memory", sink = page[4096]);
    FAULT("division by zero", sink = 1 / zero);
#ifdef __x86_64__
    FAULT("non-canonical address", sink = *(volatile int *)0x8000000000000000);
    FAULT("privileged instruction", __asm__ volatile("hlt"));
#else
    say("non-canonical address: SIGSEGV ?");
    say("privileged instruction: SIGSEGV ?");
#endif
    FAULT("illegal instruction", ILLEGAL);
    int fd = NEED(open("short", O_RDWR | O_CREAT, 0600));
    write(fd, "x", 1);
    char *file = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    FAULT("within the last page", sink = file[4095]);
    FAULT("past the end of the file", sink = file[4096]);
    TRUE(seen_address == file + 4096);
    for (int i = 0; i < 200; i++)
        if (!sigsetjmp(back, 1))
            sink = *(volatile int *)16;
    say("200 faults in a row survived");

    install(SIGSEGV, repairs, 0);
    *(volatile char *)(page + 7) = 'r';
    say("repaired: %c, fault at +%ld", page[7], (long)((char *)seen_address - page));
    install(SIGILL, skips, 0);
    long result = 0;
#ifdef __x86_64__
    __asm__ volatile("ud2" : "=a"(result) : "0"(0L));
#else
    register long x0 __asm__("x0") = 0;
    __asm__ volatile("udf #0" : "+r"(x0));
    result = x0;
#endif
    say("handler changed the register: %ld", result);

    pid_t child = NEED(fork());
    if (!child) {
        static char alternate[65536];
        stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
        sigaltstack(&stack, NULL);
        install(SIGSEGV, jumps, SA_ONSTACK);
        if (!sigsetjmp(back, 1))
            recurse(0);
        say("stack overflow caught, deep: %d", depth > 1000);
        _exit(0);
    }
    reap("overflow", child);
    child = NEED(fork());
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        recurse(0);
    }
    reap("overflow without a handler", child);
    child = NEED(fork());
    if (!child) {
        signal(SIGSEGV, SIG_IGN); /* a fault cannot be ignored */
        sink = *(volatile int *)16;
        _exit(0);
    }
    reap("ignored fault", child);
    child = NEED(fork());
    if (!child) {
        sigset_t set;
        sigfillset(&set);
        sigprocmask(SIG_BLOCK, &set, NULL); /* nor blocked */
        install(SIGSEGV, repairs, 0);
        sink = *(volatile int *)16;
        _exit(0);
    }
    reap("blocked fault", child);
    return 0;
}
