/* Handlers, masks, pending signals, one-shot and nested handlers. */
#include "guest.h"

static volatile int count, depth, deepest, raises, order[16], ordered;
static volatile unsigned masked;

static void counter(int number)
{
    (void)number;
    count++;
}

static void recorder(int number)
{
    order[ordered++ % 16] = number;
}

static void reenter(int number)
{
    if (++depth > deepest)
        deepest = depth;
    if (raises-- > 0)
        raise(number);
    depth--;
}

static void look_at_mask(int number)
{
    sigset_t set;
    (void)number;
    sigprocmask(SIG_BLOCK, NULL, &set);
    masked = sigismember(&set, SIGUSR1) | sigismember(&set, SIGUSR2) << 1 | sigismember(&set, SIGTERM) << 2;
}

static void install(int number, void (*handler)(int), int flags, int also)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    if (also)
        sigaddset(&action.sa_mask, also);
    SHOW(sigaction(number, &action, NULL));
}

static void handlers(void)
{
    install(SIGUSR1, counter, 0, 0);
    for (int i = 0; i < 1000; i++)
        raise(SIGUSR1);
    SHOW(count);
    struct sigaction old;
    SHOW(sigaction(SIGUSR1, NULL, &old));
    TRUE(old.sa_handler == counter);
    install(SIGUSR1, counter, SA_RESETHAND, 0);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &old);
    TRUE(old.sa_handler == SIG_DFL);
    raises = 3;
    install(SIGUSR1, reenter, SA_NODEFER, 0);
    raise(SIGUSR1);
    SHOW(deepest);
    deepest = 0;
    raises = 3;
    install(SIGUSR1, reenter, 0, 0);
    raise(SIGUSR1); /* the raises inside stay pending and run one after the other */
    SHOW(deepest);
    install(SIGUSR1, look_at_mask, 0, SIGTERM);
    raise(SIGUSR1);
    SHOW(masked);
    look_at_mask(0);
    SHOW(masked);
    struct sigaction action = {.sa_handler = counter};
    SHOW(sigaction(SIGKILL, &action, NULL));
    SHOW(sigaction(SIGSTOP, &action, NULL));
    SHOW(sigaction(0, &action, NULL));
    SHOW(sigaction(100, &action, NULL));
    install(SIGUSR2, SIG_IGN, 0, 0);
    SHOW(raise(SIGUSR2));
}

static void masks(void)
{
    sigset_t set, old, pending;
    install(SIGUSR1, counter, 0, 0);
    install(SIGUSR2, recorder, 0, 0);
    install(SIGHUP, recorder, 0, 0);
    count = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGHUP);
    SHOW(sigprocmask(SIG_BLOCK, &set, &old));
    for (int i = 0; i < 5; i++)
        raise(SIGUSR1);
    SHOW(count);
    SHOW(sigpending(&pending));
    SHOW(sigismember(&pending, SIGUSR1));
    SHOW(sigismember(&pending, SIGUSR2));
    raise(SIGUSR2);
    raise(SIGHUP);
    SHOW(sigprocmask(SIG_SETMASK, &old, NULL));
    SHOW(count); /* once: ordinary signals do not queue */
    say("order %s %s", signal_name(order[0]), signal_name(order[1]));
    SHOW(sigprocmask(99, &set, NULL));
    sigfillset(&set);
    SHOW(sigprocmask(SIG_SETMASK, &set, NULL));
    sigprocmask(SIG_BLOCK, NULL, &set);
    SHOW(sigismember(&set, SIGKILL));
    SHOW(sigismember(&set, SIGSTOP));
    SHOW(sigismember(&set, SIGTERM));
    raise(SIGTERM);
    install(SIGTERM, SIG_IGN, 0, 0); /* ignoring discards what is pending */
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGTERM));
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void suspending(void)
{
    sigset_t set, old;
    count = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    pid_t parent = getpid();
    pid_t child = NEED(fork());
    if (!child) {
        for (int i = 0; i < 200; i++) {
            kill(parent, SIGUSR1);
            nap_ms(2);
        }
        _exit(0);
    }
    for (int i = 0; i < 3; i++)
        SHOW(sigsuspend(&old));
    TRUE(count >= 3);
    kill(child, SIGKILL);
    reap("sender", child);
    sigprocmask(SIG_SETMASK, &old, NULL);
    alarm(1);
    install(SIGALRM, counter, 0, 0);
    SHOW(pause());
}

static void defaults(void)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGSEGV, SIGABRT};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        pid_t child = NEED(fork());
        if (!child) {
            signal(fatal[i], SIG_DFL);
            kill(getpid(), fatal[i]);
            _exit(1);
        }
        reap(signal_name(fatal[i]), child);
    }
    static const int harmless[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        pid_t child = NEED(fork());
        if (!child) {
            kill(getpid(), harmless[i]);
            _exit(2);
        }
        reap(signal_name(harmless[i]), child);
    }
    pid_t child = NEED(fork());
    if (!child)
        abort();
    reap("abort", child);
    SHOW(kill(getpid(), 0));
    SHOW(kill(getpid(), 65));
    SHOW(kill(99999999, SIGTERM));
}

int main(void)
{
    handlers();
    masks();
    suspending();
    defaults();
    return 0;
}
