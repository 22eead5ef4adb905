/* Programs that keep values in x18, in every kind of instruction that can name it. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef uint64_t u64;

/* out = what `code` leaves in x18, or in [0] if it puts it there; %0 is x18's first value. */
#define SHOW(name, code)                                                                       \
    do {                                                                                       \
        u64 out, memory[8] = {11, 22, 33, 44, 55, 66, 77, 88}, *p = memory;                     \
        __asm__ volatile("mov x18, %2\n" code "\nmov %0, x18"                                   \
                         : "=r"(out), "+r"(p)                                                  \
                         : "r"(0x123456789abcdefULL), "r"(5UL), "r"(7UL)                         \
                         : "x18", "x19", "x15", "x16", "x17", "x30", "x9", "x10", "v0", "cc",     \
                           "memory");                                                          \
        printf("%s: %llx, %llx %llx %llx, %ld\n", name, (unsigned long long)out,                \
               (unsigned long long)memory[0], (unsigned long long)memory[1],                   \
               (unsigned long long)memory[2], (long)(p - memory));                             \
    } while (0)

static void instructions(void) {
    SHOW("add", "add x18, x18, %3");
    SHOW("adds w", "adds w18, w18, w18");
    SHOW("sub extended", "sub x18, x18, w18, uxtb #2");
    SHOW("and", "and x18, x18, #0xff00ff00ff00ff00");
    SHOW("orr shifted", "orr x18, %3, x18, ror #13");
    SHOW("movk", "movk x18, #0xdead, lsl #16");
    SHOW("mvn", "mvn x18, x18");
    SHOW("madd", "madd x18, x18, %3, x18");
    SHOW("umulh", "umulh x18, x18, x18");
    SHOW("udiv", "udiv x18, x18, %4");
    SHOW("ubfx", "ubfx x18, x18, #12, #20");
    SHOW("extr", "extr x18, x18, %3, #9");
    SHOW("rev", "rev x18, x18");
    SHOW("clz", "clz x18, x18");
    SHOW("csel", "cmp x18, %3\n csel x18, x18, %3, lo");
    SHOW("ccmp", "cmp %3, #5\n ccmp x18, %4, #0, eq\n cset x18, hi");
    SHOW("flags live", "cmp %3, %3\n mov x19, x18\n add x18, x18, #1\n cset x9, eq\n str x9, [%1]");
    SHOW("store", "str x18, [%1]");
    SHOW("store pair", "stp x18, %3, [%1, #8]");
    SHOW("store post", "str x18, [%1], #8");
    SHOW("store pre", "strh w18, [%1, #8]!");
    SHOW("load", "ldr x18, [%1, #16]");
    SHOW("load pair", "ldp x9, x18, [%1, #16]\n str x9, [%1]");
    SHOW("load signed", "ldrsb x18, [%1, #32]");
    SHOW("base", "mov x18, %1\n ldr x18, [x18, #24]");
    SHOW("base post", "mov x18, %1\n ldr x9, [x18], #16\n str x9, [%1, #16]\n sub x18, x18, %1");
    SHOW("index", "mov x18, #3\n ldr x18, [%1, x18, lsl #3]");
    SHOW("index w", "mov w18, #-1\n add x9, %1, #16\n ldr x18, [x9, w18, sxtw #3]");
    SHOW("vector base", "mov x18, %1\n ldr q0, [x18], #16\n fmov x9, d0\n str x9, [%1, #8]\n sub x18, x18, %1");
    SHOW("fmov", "fmov d0, x18\n fmov x18, d0");
    SHOW("dup", "dup v0.2d, x18\n umov x18, v0.d[1]");
    SHOW("scvtf", "scvtf d0, x18\n fcvtzs x18, d0");
    SHOW("acquire", "ldar x18, [%1]\n add x18, x18, #1\n stlr x18, [%1]");
    SHOW("atomic", ".arch_extension lse\n mov x18, #9\n ldadd x18, x18, [%1]");
    SHOW("system", "mov x18, #0x200000\n msr fpcr, x18\n mov x18, #0\n mrs x18, fpcr\n msr fpcr, xzr");
    SHOW("scratches", "mov x15, #1\n mov x16, #2\n mov x17, #3\n mov x30, #4\n add x18, x18, #1\n"
                      " stp x15, x16, [%1]\n add x17, x17, x30, lsl #4\n str x17, [%1, #16]");
    SHOW("uses x17 x30", "mov x17, #3\n mov x30, #4\n add x18, x17, x30\n add x17, x18, x18\n"
                         " str x17, [%1]\n mov x30, x18\n str x30, [%1, #8]");
    SHOW("uses x15 x17", "mov x15, #3\n mov x17, #4\n madd x18, x15, x17, x18\n"
                         " sub x15, x17, x18\n str x15, [%1]");
    SHOW("stack", "str x18, [sp, #-16]!\n mov x18, #1\n ldr x18, [sp], #16");
    SHOW("cbz", "cbz x18, 1f\n mov x9, #1\n b 2f\n1: mov x9, #2\n2: str x9, [%1]");
    SHOW("cbz taken", "mov x18, #0\n cbz x18, 1f\n mov x9, #1\n b 2f\n1: mov x9, #2\n2: str x9, [%1]");
    SHOW("tbnz", "tbnz x18, #0, 1f\n mov x9, #1\n b 2f\n1: mov x9, #2\n2: str x9, [%1]");
    SHOW("tbnz back", "mov x9, #0\n mov x18, #0x70\n3: add x9, x9, #1\n lsr x18, x18, #1\n"
                      " tbnz x18, #4, 3b\n str x9, [%1]");
    SHOW("adr", "adr x18, 1f\n adr x9, 1f\n sub x18, x18, x9\n1:");
    SHOW("adrp", "adrp x18, main\n adrp x9, main\n sub x18, x18, x9");
    SHOW("literal", "ldr x18, 1f\n b 2f\n .balign 8\n1: .quad 0x1122334455667788\n2:");
    SHOW("literal signed", "ldrsw x18, 1f\n b 2f\n1: .word 0x87654321\n2:");
    SHOW("br", "adr x18, 1f\n br x18\n b 2f\n1: mov x9, #9\n str x9, [%1]\n2: mov x18, #0");
    SHOW("blr", "mov x19, x30\n adr x18, 1f\n blr x18\n mov x9, #8\n str x9, [%1, #8]\n b 2f\n"
                "1: mov x9, #9\n str x9, [%1]\n ret\n2: mov x30, x19\n mov x18, #0");
    SHOW("call between", "mov x19, x8\n mov x9, x0\n mov x8, #172\n svc #0\n mov x0, x9\n mov x8, x19\n"
                         " eor x18, x18, #1");
}

static volatile sig_atomic_t handled;
static volatile u64 seen;

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)number, (void)info;
    seen = u->uc_mcontext.regs[18];
    u->uc_mcontext.regs[18] += 1;
    __asm__ volatile("mov x18, #-1" ::: "x18");
    handled = handled + 1;
}

static void fault(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)number;
    u->uc_mcontext.pc += 4;
    u->uc_mcontext.regs[18] ^= (u64)info->si_addr;
}

static void signals(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = handler};
    sigaction(SIGUSR1, &action, NULL);
    u64 out;
    register u64 pid __asm__("x0") = (u64)getpid();
    register u64 signal_number __asm__("x1") = SIGUSR1;
    register u64 number __asm__("x8") = 129; /* kill */
    __asm__ volatile("mov x18, #41\n svc #0\n mov %1, x18"
                     : "+r"(pid), "=r"(out) : "r"(signal_number), "r"(number) : "x18", "memory");
    printf("kill: handler saw %llu, then %llu\n", (unsigned long long)seen, (unsigned long long)out);
    action.sa_sigaction = fault;
    sigaction(SIGSEGV, &action, NULL);
    __asm__ volatile("mov x9, #0x40\n mov x18, #3\n ldr x18, [x9]\n mov %0, x18"
                     : "=r"(out) :: "x18", "x9", "memory");
    printf("fault of a load: %llx\n", (unsigned long long)out);
    __asm__ volatile("mov x9, #0x100\n mov x18, #5\n str x18, [x9, #8]!\n mov %0, x18\n add %0, %0, x9"
                     : "=r"(out) :: "x18", "x9", "memory");
    printf("fault of a store: %llx\n", (unsigned long long)out);
}

/* A timer interrupts a loop that lives in x18. */
static void storm(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART, .sa_sigaction = handler};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 700}, {0, 700}};
    int before = handled;
    u64 wrong = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    while (handled - before < 300) {
        u64 out;
        /* the handler adds one for each signal that comes between the moves: count those only */
        int at = handled;
        __asm__ volatile("mov x18, #0\n mov x9, #400\n"
                         "1: add x18, x18, #4096\n subs x9, x9, #1\n b.ne 1b\n mov %0, x18"
                         : "=r"(out) :: "x18", "x9", "cc", "memory");
        u64 came = (u64)(handled - at);
        wrong += out / 4096 != 400 || out % 4096 > came;
    }
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("storm: %llu wrong\n", (unsigned long long)wrong);
}

static void *thread(void *argument) {
    u64 x = (u64)argument, out;
    for (int i = 0; i < 500; i++) {
        register u64 number __asm__("x8") = 124; /* sched_yield */
        __asm__ volatile("mov x18, %1\n svc #0\n add x18, x18, #1\n mov %0, x18"
                         : "=&r"(out) : "r"(x), "r"(number) : "x18", "x0", "memory");
        x = out;
    }
    return (void *)x;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    instructions();
    signals();
    storm();
    pthread_t threads[4];
    for (u64 i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread, (void *)(i << 32));
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("thread: %llx\n", (unsigned long long)result);
    }
    u64 kept;
    register u64 flags __asm__("x0") = SIGCHLD, number __asm__("x8") = 220; /* clone as fork */
    __asm__ volatile("mov x18, #99\n mov x1, #0\n mov x2, #0\n mov x3, #0\n mov x4, #0\n svc #0\n"
                     "mov %1, x18" : "+r"(flags), "=r"(kept) : "r"(number)
                     : "x18", "x1", "x2", "x3", "x4", "memory");
    if (!flags)
        _exit((int)kept);
    int status;
    waitpid((pid_t)flags, &status, 0);
    printf("fork: parent %llu, child %d\n", (unsigned long long)kept, WEXITSTATUS(status));
    return 0;
}
