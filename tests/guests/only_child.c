/* Waiting for an only child, and whatever else may happen meanwhile. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static volatile int handled;

static void handler(int number)
{
    (void)number;
    handled++;
}

static pid_t child_that_exits(int code, long after_ms)
{
    pid_t child = NEED(fork());
    if (!child) {
        nap_ms(after_ms);
        _exit(code);
    }
    return child;
}

static void plain(void)
{
    int status;
    for (int i = 0; i < 50; i++) {
        pid_t child = child_that_exits(i, 0);
        if (waitpid(i & 1 ? -1 : child, &status, 0) != child || WEXITSTATUS(status) != i)
            say("round %d: %x", i, (unsigned)status);
        if (kill(child, 0) != -1 || errno != ESRCH)
            say("round %d: it is still there", i);
    }
    reap("later", child_that_exits(4, 30));
    SHOW(waitpid(-1, &status, 0));
    pid_t child = child_that_exits(5, 0);
    SHOW(waitpid(child + 1, &status, 0));
    nap_ms(20); /* a zombie by now */
    reap("zombie", child);
    struct rusage usage;
    child = child_that_exits(6, 0);
    TRUE(wait4(child, &status, 0, &usage) == child);
    child = child_that_exits(7, 10);
    SHOW(waitpid(child, &status, WNOHANG));
    SHOW(waitpid(child, &status, __WCLONE));
    reap("both", child);
}

static void signals(void)
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGCHLD, &action, NULL);
    int missed = 0;
    for (int i = 0; i < 30; i++) {
        handled = 0;
        int status;
        pid_t child = child_that_exits(0, i & 3 ? 0 : 2);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        missed += !handled; /* the handler has run before waitpid returned */
    }
    SHOW(missed);
    signal(SIGCHLD, SIG_DFL);

    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    missed = 0;
    for (int i = 0; i < 10; i++) {
        reap(i ? "blocked" : "first blocked", child_that_exits(i, 0));
        sigpending(&pending);
        missed += !sigismember(&pending, SIGCHLD);
        siginfo_t info;
        sigwaitinfo(&set, &info);
    }
    SHOW(missed);
    sigprocmask(SIG_UNBLOCK, &set, NULL);

    signal(SIGCHLD, SIG_IGN);
    pid_t child = child_that_exits(0, 10);
    SHOW(waitpid(child, NULL, 0)); /* sleeps until it has ended, then has nothing to report */
    TRUE(kill(child, 0) == -1 && errno == ESRCH);
    signal(SIGCHLD, SIG_DFL);

    sigaction(SIGALRM, &action, NULL); /* without SA_RESTART */
    child = child_that_exits(8, 2000);
    struct timeval soon = {0, 20000};
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = soon}, NULL);
    SHOW(waitpid(child, NULL, 0));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    handled = 0;
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = soon}, NULL);
    kill(child, SIGTERM);
    reap("restarted", child);
    while (!handled)
        nap_ms(1);
}

static void stops(void)
{
    int status;
    pid_t child = NEED(fork());
    if (!child) {
        for (int i = 0; i < 3; i++) {
            raise(SIGSTOP);
            nap_ms(50); /* another stop would take the news that it continued */
        }
        _exit(9);
    }
    for (int i = 0; i < 3; i++) {
        TRUE(waitpid(child, &status, WUNTRACED) == child);
        outcome("only child", status);
        kill(child, SIGCONT);
        TRUE(waitpid(-1, &status, WCONTINUED) == child);
        outcome("only child", status);
    }
    reap("only child", child);
}

static void families(void)
{
    /* Another child appears while it waits: an orphan that it adopts. */
    int p[2], status;
    NEED(pipe(p));
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = NEED(fork());
    if (!child) {
        pid_t before = getpid(), grandchild = NEED(fork());
        if (!grandchild) {
            close(p[1]);
            char byte;
            read(p[0], &byte, 1); /* the end of its parent */
            while (getppid() == before)
                nap_ms(1);
            _exit(11);
        }
        _exit(10);
    }
    close(p[1]);
    reap("parent", child);
    TRUE(waitpid(-1, &status, 0) > 0);
    outcome("adopted", status);
    SHOW(waitpid(-1, &status, 0));

    pid_t first = child_that_exits(12, 30), second = child_that_exits(13, 0);
    TRUE(waitpid(-1, &status, 0) == second);
    TRUE(waitpid(-1, &status, 0) == first);
    child = NEED(fork());
    if (!child)
        for (;;)
            pause();
    kill(child, SIGKILL); /* perhaps before it has run at all */
    reap("killed at once", child);
    child = NEED(fork());
    if (!child)
        raise(SIGSEGV);
    reap("faulted", child);
    child = NEED(vfork());
    if (!child)
        _exit(14);
    reap("vforked", child);
    child = NEED(vfork());
    if (!child) {
        execl("/bin/sh", "sh", "-c", "sleep 0.02; exit 15", (char *)NULL);
        _exit(1);
    }
    reap("executed", child);
    child = NEED(fork());
    if (!child) { /* whoever executes a program keeps its children */
        if (!fork()) {
            nap_ms(20);
            _exit(0);
        }
        execl("/bin/sh", "sh", "-c", "wait; exit 16", (char *)NULL);
    }
    reap("executed with a child", child);
}

int main(void)
{
    plain();
    signals();
    stops();
    families();
    return 0;
}
