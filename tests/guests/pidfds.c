/* Process descriptors, clone3 and clone with odd flags. */
#include "guest.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static long clone3(uint64_t flags, int *pidfd, int signal_at_end)
{
    struct clone_args arguments = {.flags = flags, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = signal_at_end};
    return syscall(SYS_clone3, &arguments, sizeof arguments);
}

static volatile int children, seen;

static int sharer(void *unused)
{
    (void)unused;
    seen = 42;
    return 8;
}

static void counts(int number)
{
    (void)number;
    children++;
}

int main(void)
{
    siginfo_t info;
    int pidfd = -1;
    pid_t child = NEED(fork());
    if (!child)
        for (;;)
            pause();
    pidfd = OK(syscall(SYS_pidfd_open, child, 0));
    TRUE(fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    struct pollfd wait_for = {pidfd, POLLIN, 0};
    SHOW(poll(&wait_for, 1, 0));
    SHOW(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    SHOW(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0));
    SHOW(poll(&wait_for, 1, 5000));
    SHOW(waitid(P_PIDFD, pidfd, &info, WEXITED));
    say("%s, the child %d", signal_name(info.si_status), info.si_pid == child);
    SHOW(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0));
    SHOW(waitid(P_PIDFD, pidfd, &info, WEXITED));
    close(pidfd);
    SHOW(syscall(SYS_pidfd_open, 99999999, 0));
    SHOW(syscall(SYS_pidfd_open, child, 0x10));

    child = clone3(CLONE_PIDFD, &pidfd, SIGCHLD);
    if (!child)
        _exit(5);
    TRUE(child > 0 && pidfd > 2);
    wait_for.fd = pidfd;
    SHOW(poll(&wait_for, 1, 5000));
    reap("clone3 child", child);

    signal(SIGCHLD, counts);
    child = clone3(0, NULL, 0); /* ends without a signal: needs __WCLONE or __WALL */
    if (!child)
        _exit(6);
    int status = 0;
    SHOW(waitpid(child, &status, 0));
    TRUE(waitpid(child, &status, __WALL) == child);
    outcome("silent child", status);
    SHOW(children);
    child = clone3(0, NULL, SIGUSR1);
    if (!child)
        _exit(7);
    signal(SIGUSR1, counts);
    while (waitpid(child, &status, __WCLONE) < 0 && errno == EINTR)
        ;
    outcome("USR1 child", status);
    signal(SIGCHLD, SIG_DFL);

    /* Shared memory, descriptors and directory without being a thread. */
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    child = clone(sharer, stack + 65536, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    say("seen %d", seen);
    reap("sharing child", child);
    child = syscall(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    if (!child) {
        open("/dev/null", O_RDONLY);
        chdir("/tmp");
        umask(077);
        _exit(9);
    }
    int before = NEED(dup(0));
    close(before);
    reap("table sharer", child);
    int after = NEED(dup(0));
    TRUE(after == before + 1 || after == before); /* it may have run before or after the dup */
    char path[64];
    TRUE(getcwd(path, sizeof path) && !strcmp(path, "/tmp"));
    SHOW(umask(022));
    SHOW(clone3(CLONE_THREAD, NULL, 0));
    SHOW(clone3(CLONE_SIGHAND, NULL, 0));
    SHOW(clone3(1ULL << 60, NULL, 0));
    struct clone_args small = {0};
    SHOW(syscall(SYS_clone3, &small, 8));
    return 0;
}
