/* What comes with a signal: siginfo, queued values, real-time order, waiting without a handler. */
#include "guest.h"
#include <ucontext.h>

static volatile int values[64], codes[64], numbers[64], got, from_self, on_stack;
static char alternate[65536];

static void informed(int number, siginfo_t *info, void *context)
{
    ucontext_t *c = context;
    int here;
    if (got < 64) {
        numbers[got] = number;
        codes[got] = info->si_code;
        values[got] = info->si_value.sival_int;
        got++;
    }
    from_self = info->si_pid == getpid() && info->si_uid == getuid();
    on_stack = (char *)&here >= alternate && (char *)&here < alternate + sizeof alternate;
    (void)c;
}

static void install(int number, int flags)
{
    struct sigaction action = {.sa_sigaction = informed, .sa_flags = SA_SIGINFO | flags};
    sigfillset(&action.sa_mask);
    SHOW(sigaction(number, &action, NULL));
}

static void codes_and_values(void)
{
    install(SIGUSR1, 0);
    install(SIGRTMIN, 0);
    install(SIGRTMIN + 1, 0);
    kill(getpid(), SIGUSR1);
    say("kill: SI_USER %d from self %d", codes[0] == SI_USER, from_self);
    raise(SIGUSR1);
    say("raise: SI_TKILL %d", codes[1] == SI_TKILL);
    union sigval value = {.sival_int = 42};
    SHOW(sigqueue(getpid(), SIGUSR1, value));
    say("sigqueue: SI_QUEUE %d value %d from self %d", codes[2] == SI_QUEUE, values[2], from_self);
    got = 0;
    sigset_t set, old;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 5; i++) {
        value.sival_int = 100 + i;
        sigqueue(getpid(), SIGRTMIN + 1, value);
        value.sival_int = 200 + i;
        sigqueue(getpid(), SIGRTMIN, value);
        value.sival_int = 300 + i;
        sigqueue(getpid(), SIGUSR1, value);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    for (int i = 0; i < got; i++)
        say("%s%+d value %d", numbers[i] == SIGUSR1 ? "USR1" : "RTMIN",
            numbers[i] == SIGUSR1 ? 0 : numbers[i] - SIGRTMIN, values[i]);
    SHOW(sigqueue(99999999, SIGUSR1, value));
    SHOW(sigqueue(getpid(), 99, value));
}

static void child_signals(void)
{
    install(SIGCHLD, 0);
    got = 0;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    pid_t child = NEED(fork());
    if (!child)
        _exit(17);
    siginfo_t info;
    TRUE(sigwaitinfo(&set, &info) == SIGCHLD);
    say("exited %d status %d from the child %d", info.si_code == CLD_EXITED, info.si_status,
        info.si_pid == child);
    reap("child", child);
    child = NEED(fork());
    if (!child) {
        for (;;)
            pause();
    }
    kill(child, SIGKILL);
    TRUE(sigwaitinfo(&set, &info) == SIGCHLD);
    say("killed %d status %d", info.si_code == CLD_KILLED, info.si_status);
    reap("child", child);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGCHLD, SIG_DFL);
}

static void waiting(void)
{
    sigset_t set, old;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, &old);
    struct timespec none = {0, 0}, some = {0, 20000000};
    SHOW(sigtimedwait(&set, &info, &none));
    int64_t before = now_ms();
    SHOW(sigtimedwait(&set, &info, &some));
    TRUE(now_ms() - before >= 19);
    raise(SIGUSR2);
    TRUE(sigtimedwait(&set, &info, &some) == SIGUSR2);
    union sigval value = {.sival_int = -9};
    sigqueue(getpid(), SIGRTMIN + 3, value);
    TRUE(sigwaitinfo(&set, &info) == SIGRTMIN + 3);
    SHOW(info.si_value.sival_int);
    pid_t parent = getpid(), child = NEED(fork());
    if (!child) {
        nap_ms(30);
        kill(parent, SIGUSR2);
        _exit(0);
    }
    int number = 0;
    CODE(sigwait(&set, &number));
    say("%s", signal_name(number));
    reap("sender", child);
    install(SIGUSR1, 0); /* a handled signal interrupts the wait */
    child = NEED(fork());
    if (!child) {
        nap_ms(30);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    SHOW(syscall(SYS_rt_sigtimedwait, &set, &info, NULL, 8)); /* musl's function tries again */
    reap("interrupter", child);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void stacks(void)
{
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate}, old;
    SHOW(sigaltstack(NULL, &old));
    SHOW(old.ss_flags == SS_DISABLE);
    SHOW(sigaltstack(&stack, NULL));
    install(SIGUSR1, 0);
    raise(SIGUSR1);
    SHOW(on_stack);
    install(SIGUSR1, SA_ONSTACK);
    raise(SIGUSR1);
    SHOW(on_stack);
    sigaltstack(NULL, &old);
    TRUE(old.ss_sp == alternate && old.ss_size == sizeof alternate && old.ss_flags == 0);
    stack.ss_size = 100;
    SHOW(sigaltstack(&stack, NULL));
    stack.ss_flags = SS_DISABLE;
    SHOW(sigaltstack(&stack, NULL));
    raise(SIGUSR1);
    SHOW(on_stack);
}

int main(void)
{
    codes_and_values();
    child_signals();
    waiting();
    stacks();
    return 0;
}
