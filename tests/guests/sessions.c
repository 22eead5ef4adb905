/* Sessions, process groups, stopping and continuing. */
#include "guest.h"

static int report[2];

/* Run `body` in a child and print how it ended. */
static void in_child(const char *what, void (*body)(void))
{
    pid_t child = NEED(fork());
    if (!child) {
        body();
        _exit(0);
    }
    reap(what, child);
}

static void leads(void)
{
    pid_t self = getpid();
    SHOW(setpgid(0, 0));
    TRUE(getpgrp() == self && getpgid(0) == self);
    SHOW(setsid()); /* a group leader may not */
    pid_t child = NEED(fork());
    if (!child) {
        pid_t before = getsid(0);
        TRUE(setsid() == getpid());
        TRUE(getsid(0) == getpid() && getpgrp() == getpid() && before != getpid());
        SHOW(setpgid(0, 0));
        TRUE(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
        _exit(0);
    }
    reap("session leader", child);
}

static void groups(void)
{
    NEED(setpgid(0, 0));
    pid_t group = getpid(), children[3];
    int p[2];
    NEED(pipe(p));
    for (int i = 0; i < 3; i++) {
        children[i] = NEED(fork());
        if (!children[i]) {
            signal(SIGTERM, SIG_DFL);
            if (i == 2)
                setpgid(0, 0); /* leaves the group */
            write(p[1], "r", 1);
            for (;;)
                pause();
        }
    }
    char byte;
    for (int i = 0; i < 3; i++)
        read(p[0], &byte, 1);
    TRUE(getpgid(children[0]) == group && getpgid(children[2]) == children[2]);
    signal(SIGTERM, SIG_IGN);
    SHOW(kill(-group, SIGTERM));
    reap("in the group", children[0]);
    reap("in the group", children[1]);
    SHOW(waitpid(children[2], NULL, WNOHANG));
    SHOW(kill(-children[2], SIGKILL));
    reap("in its own", children[2]);
    SHOW(kill(-99999999, SIGTERM));
    int status;
    pid_t one = NEED(fork());
    if (!one) {
        setpgid(0, 0);
        write(p[1], "r", 1);
        _exit(1);
    }
    pid_t two = NEED(fork());
    if (!two)
        _exit(2);
    setpgid(one, one);
    read(p[0], &byte, 1);
    TRUE(waitpid(-one, &status, 0) == one);
    outcome("by group", status);
    TRUE(waitpid(0, &status, 0) == two);
    outcome("own group", status);
    SHOW(setpgid(99999999, 0));
    SHOW(setpgid(0, 99999999));
    SHOW(setpgid(0, -1));
    SHOW(getpgid(99999999));
    SHOW(getsid(99999999));
}

static void after_exec(void)
{
    int p[2];
    NEED(pipe(p));
    fcntl(p[1], F_SETFD, FD_CLOEXEC);
    pid_t child = NEED(fork());
    if (!child) {
        execl("/proc/self/exe", "sessions", "wait", (char *)NULL);
        _exit(1);
    }
    close(p[1]);
    char byte;
    read(p[0], &byte, 1); /* returns when the child has executed */
    SHOW(setpgid(child, child));
    kill(child, SIGKILL);
    reap("executed child", child);
}

static void stops(void)
{
    int status;
    pid_t child = NEED(fork());
    if (!child) {
        raise(SIGSTOP);
        raise(SIGTSTP);
        _exit(6);
    }
    TRUE(waitpid(child, &status, WUNTRACED) == child);
    outcome("child", status);
    SHOW(waitpid(child, &status, WUNTRACED | WNOHANG)); /* told once */
    kill(child, SIGUSR1); /* stays pending while it is stopped */
    nap_ms(20);
    SHOW(waitpid(child, &status, WNOHANG));
    kill(child, SIGCONT);
    reap("continued", child);

    child = NEED(fork());
    if (!child) {
        raise(SIGSTOP);
        for (;;)
            pause();
    }
    TRUE(waitpid(child, &status, WUNTRACED) == child);
    siginfo_t info;
    kill(child, SIGCONT);
    SHOW(waitid(P_PID, child, &info, WCONTINUED));
    say("continued %d status %s", info.si_code == CLD_CONTINUED, signal_name(info.si_status));
    kill(child, SIGTERM);
    reap("child", child);

    child = NEED(fork());
    if (!child)
        for (;;)
            pause();
    kill(child, SIGSTOP);
    TRUE(waitpid(child, &status, WUNTRACED) == child);
    kill(child, SIGKILL); /* works on the stopped */
    reap("stopped child", child);
}

static volatile int stopped_children;

static void on_child(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code == CLD_STOPPED)
        stopped_children++;
}

static void notifications(void)
{
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    int status;
    pid_t child = NEED(fork());
    if (!child) {
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(child, &status, WUNTRACED);
    for (int64_t until = now_ms() + 5000; !stopped_children && now_ms() < until;)
        nap_ms(1);
    TRUE(stopped_children == 1);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    action.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    child = NEED(fork());
    if (!child) {
        raise(SIGSTOP);
        _exit(0);
    }
    waitpid(child, &status, WUNTRACED);
    for (int64_t until = now_ms() + 5000; !stopped_children && now_ms() < until;)
        nap_ms(1);
    TRUE(stopped_children == 1);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    action.sa_flags = SA_SIGINFO | SA_NOCLDWAIT;
    sigaction(SIGCHLD, &action, NULL);
    child = NEED(fork());
    if (!child)
        _exit(1);
    SHOW(waitpid(child, &status, 0));
    signal(SIGCHLD, SIG_DFL);
}

int main(int count, char **arguments)
{
    if (count > 1 && !strcmp(arguments[1], "wait"))
        for (;;)
            pause();
    NEED(pipe(report));
    in_child("leads", leads);
    in_child("groups", groups);
    in_child("after exec", after_exec);
    in_child("stops", stops);
    notifications();
    return 0;
}
