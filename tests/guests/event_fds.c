/* eventfd, timerfd, signalfd, and poll and select over them. */
#include "guest.h"
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void eventfds(void)
{
    uint64_t value = 0;
    int fd = NEED(eventfd(3, EFD_NONBLOCK));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 8));
    value = 5;
    SHOW(write(fd, &value, 8));
    SHOW(write(fd, &value, 8));
    SHOW(read(fd, &value, 8));
    SHOW(value);
    SHOW(read(fd, &value, 4));
    value = UINT64_MAX;
    SHOW(write(fd, &value, 8));
    value = UINT64_MAX - 1;
    SHOW(write(fd, &value, 8));
    value = 1;
    SHOW(write(fd, &value, 8));
    close(fd);
    fd = NEED(eventfd(2, EFD_SEMAPHORE));
    read(fd, &value, 8);
    SHOW(value);
    pid_t child = NEED(fork());
    if (!child) {
        read(fd, &value, 8); /* the counter is shared */
        _exit(value);
    }
    reap("child", child);
    child = NEED(fork());
    if (!child) {
        nap_ms(30);
        eventfd_write(fd, 1);
        _exit(0);
    }
    SHOW(read(fd, &value, 8));
    reap("writer", child);
    close(fd);
    SHOW(eventfd(0, 0x4));
}

static void timerfds(void)
{
    uint64_t count;
    struct itimerspec spec = {{0, 0}, {0, 10000000}};
    int fd = NEED(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    SHOW(read(fd, &count, 8));
    SHOW(timerfd_settime(fd, 0, &spec, NULL));
    struct pollfd wait_for = {fd, POLLIN, 0};
    SHOW(poll(&wait_for, 1, 5000));
    SHOW(read(fd, &count, 8));
    SHOW(count);
    SHOW(read(fd, &count, 8));
    spec.it_interval.tv_nsec = spec.it_value.tv_nsec = 2000000;
    SHOW(timerfd_settime(fd, 0, &spec, NULL));
    nap_ms(30);
    SHOW(read(fd, &count, 8));
    TRUE(count >= 10);
    struct itimerspec now;
    SHOW(timerfd_gettime(fd, &now));
    SHOW(now.it_interval.tv_nsec);
    struct itimerspec off = {{0, 0}, {0, 0}};
    SHOW(timerfd_settime(fd, 0, &off, &now));
    SHOW(poll(&wait_for, 1, 20));
    struct itimerspec past = {{0, 0}, {0, 1}};
    SHOW(timerfd_settime(fd, TFD_TIMER_ABSTIME, &past, NULL));
    SHOW(poll(&wait_for, 1, 5000));
    SHOW(timerfd_create(99, 0));
    SHOW(timerfd_settime(0x7fffffff, 0, &off, NULL));
    close(fd);
}

static void signalfds(void)
{
    sigset_t set;
    struct signalfd_siginfo info[4];
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    SHOW(read(fd, info, sizeof info));
    union sigval value = {.sival_int = 31};
    sigqueue(getpid(), SIGUSR1, value);
    struct pollfd wait_for = {fd, POLLIN, 0};
    SHOW(poll(&wait_for, 1, 5000));
    SHOW(read(fd, info, sizeof info));
    say("%s value %d from self %d", signal_name(info[0].ssi_signo), info[0].ssi_int,
        info[0].ssi_pid == (uint32_t)getpid());
    SHOW(read(fd, info, sizeof info));
    SHOW(read(fd, info, 10));
    pid_t child = NEED(fork());
    if (!child)
        _exit(9);
    SHOW(poll(&wait_for, 1, 5000));
    SHOW(read(fd, info, sizeof info));
    say("%s status %d from the child %d", signal_name(info[0].ssi_signo), info[0].ssi_status,
        info[0].ssi_pid == (uint32_t)child);
    reap("child", child);
    sigset_t pending;
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR1));
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    TRUE(signalfd(fd, &set, 0) == fd);
    raise(SIGUSR1);
    SHOW(poll(&wait_for, 1, 0));
    close(fd);
}

static void selects(void)
{
    int p[2];
    NEED(pipe(p));
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(p[0], &in);
    FD_SET(p[1], &out);
    struct timeval none = {0, 0};
    SHOW(select(p[1] + 1, &in, &out, NULL, &none));
    SHOW(FD_ISSET(p[0], &in));
    SHOW(!!FD_ISSET(p[1], &out));
    write(p[1], "x", 1);
    FD_SET(p[0], &in);
    struct timespec some = {1, 0};
    SHOW(pselect(p[0] + 1, &in, NULL, NULL, &some, NULL));
    FD_ZERO(&in);
    FD_SET(40, &in); /* within the table every process starts with, and closed */
    SHOW(select(41, &in, NULL, NULL, &none));
    struct timeval short_time = {0, 20000};
    int64_t before = now_ms();
    SHOW(select(0, NULL, NULL, NULL, &short_time));
    TRUE(now_ms() - before >= 19);
    struct pollfd fds[4] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {40, POLLIN, 0}, {-1, POLLIN, 7}};
    SHOW(poll(fds, 4, 0));
    say("revents %x %x %x %x", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
    close(p[0]);
    fds[0] = fds[1];
    SHOW(ppoll(fds, 1, &some, NULL));
    say("revents %x", fds[0].revents);
    close(p[1]);
}

int main(void)
{
    eventfds();
    timerfds();
    signalfds();
    selects();
    return 0;
}
