/* fork and the wait family: statuses, options, orphans, usage. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/resource.h>

static pid_t child_that(int code, int by_signal)
{
    pid_t pid = NEED(fork());
    if (!pid) {
        if (by_signal) {
            signal(by_signal, SIG_DFL);
            raise(by_signal);
        }
        _exit(code);
    }
    return pid;
}

static void statuses(void)
{
    SHOW(waitpid(-1, NULL, 0));
    reap("zero", child_that(0, 0));
    reap("seven", child_that(7, 0));
    reap("wrapped", child_that(256 + 3, 0));
    reap("term", child_that(0, SIGTERM));
    reap("kill", child_that(0, SIGKILL));
    reap("segv", child_that(0, SIGSEGV));
    pid_t pid = child_that(1, 0);
    int status;
    TRUE(waitpid(pid, &status, 0) == pid);
    SHOW(waitpid(pid, &status, 0));
    SHOW(waitpid(getpid(), &status, 0));
    SHOW(waitpid(-1, &status, WNOHANG));
    SHOW(waitpid(-1, &status, 0x10000));
}

static void identities(void)
{
    pid_t self = getpid(), parent_seen = -1, child_seen = -1;
    int p[2];
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (!child) {
        pid_t mine[2] = {getppid(), getpid()};
        write(p[1], mine, sizeof mine);
        _exit(0);
    }
    pid_t answer[2];
    NEED(read(p[0], answer, sizeof answer));
    parent_seen = answer[0];
    child_seen = answer[1];
    TRUE(parent_seen == self);
    TRUE(child_seen == child);
    TRUE(getpid() == syscall(SYS_gettid));
    reap("child", child);
    SHOW(kill(child, 0));
}

static void options(void)
{
    int p[2], status;
    char byte;
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (!child) {
        close(p[1]);
        read(p[0], &byte, 1);
        _exit(4);
    }
    SHOW(waitpid(child, &status, WNOHANG));
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOHANG));
    SHOW(info.si_pid);
    kill(child, SIGSTOP);
    TRUE(waitpid(child, &status, WUNTRACED) == child);
    outcome("child", status);
    kill(child, SIGCONT);
    TRUE(waitpid(child, &status, WCONTINUED) == child);
    outcome("child", status);
    close(p[1]);
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    say("%s code %d status %d", info.si_code == CLD_EXITED ? "exited" : "?", info.si_code, info.si_status);
    TRUE(info.si_pid == child && info.si_signo == SIGCHLD);
    SHOW(waitid(P_PID, child, &info, WEXITED));
    SHOW(waitid(P_PID, child, &info, WEXITED));
    child = child_that(0, SIGKILL);
    SHOW(waitid(P_ALL, 0, &info, WEXITED));
    say("killed %d by %s", info.si_code == CLD_KILLED, signal_name(info.si_status));
    SHOW(waitid(P_ALL, 0, &info, 0));
    SHOW(waitid(99, 0, &info, WEXITED));
}

static void usage(void)
{
    struct rusage used;
    int status;
    pid_t child = NEED(fork());
    if (!child) {
        volatile double x = 1;
        for (int64_t until = now_ms() + 60; now_ms() < until;)
            for (int i = 0; i < 1000; i++)
                x *= 1.0000001;
        _exit(0);
    }
    TRUE(wait4(child, &status, 0, &used) == child);
    TRUE(used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec > 10000);
    SHOW(getrusage(RUSAGE_CHILDREN, &used));
    TRUE(used.ru_utime.tv_sec * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec > 10000);
}

static void orphans(void)
{
    int p[2];
    NEED(pipe(p));
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid_t child = NEED(fork());
    if (!child) {
        if (!fork()) { /* the grandchild outlives its parent and comes to the subreaper */
            while (getppid() != 0) {
                pid_t now = getppid();
                nap_ms(5);
                if (now != getppid())
                    break;
                char byte;
                if (read(p[0], &byte, 1) == 1)
                    break;
            }
            _exit(33);
        }
        _exit(0);
    }
    reap("parent", child);
    write(p[1], "x", 1);
    int status;
    pid_t orphan = wait(&status);
    TRUE(orphan > 0 && orphan != child);
    outcome("orphan", status);
    SHOW(wait(&status));
}

static void many(void)
{
    int sum = 0, count = 0;
    for (int i = 0; i < 60; i++)
        child_that(i, 0);
    for (int status; wait(&status) > 0; count++)
        sum += WEXITSTATUS(status);
    say("%d children, codes add up to %d", count, sum);
    signal(SIGCHLD, SIG_IGN); /* children vanish by themselves */
    pid_t child = child_that(1, 0);
    SHOW(waitpid(child, NULL, 0));
    signal(SIGCHLD, SIG_DFL);
}

static void memory(void)
{
    static int global = 1;
    int *heap = malloc(sizeof *heap), local = 3;
    *heap = 2;
    pid_t child = NEED(fork());
    if (!child) {
        global = *heap = local = 100;
        _exit(global + *heap + local - 300);
    }
    reap("copier", child);
    say("still %d %d %d", global, *heap, local);
}

int main(void)
{
    statuses();
    identities();
    options();
    usage();
    orphans();
    many();
    memory();
    return 0;
}
