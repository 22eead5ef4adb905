/* epoll: levels, edges, one-shots, nesting, errors. */
#include "guest.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int ep;

static void control(const char *what, int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    int result = epoll_ctl(ep, op, fd, &event);
    say("%s: %s", what, result ? errno_name(errno) : "ok");
}

static void ready(const char *what, int timeout)
{
    struct epoll_event events[8];
    int n = epoll_wait(ep, events, 8, timeout);
    printf("%s: %d", what, n);
    for (int i = 0; i < n; i++)
        printf(" [%x %llx]", events[i].events, (unsigned long long)events[i].data.u64);
    putchar('\n');
    fflush(stdout);
}

static void *later(void *fd)
{
    nap_ms(40);
    eventfd_write(*(int *)fd, 1);
    return NULL;
}

static void *adds_later(void *fd)
{
    nap_ms(40);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0xadd};
    epoll_ctl(ep, EPOLL_CTL_ADD, *(int *)fd, &event);
    return NULL;
}

static void handler(int number) { (void)number; }

int main(void)
{
    int p[2], s[2], event = NEED(eventfd(0, EFD_NONBLOCK));
    char byte;
    eventfd_t value;
    scratch();
    ep = NEED(epoll_create1(EPOLL_CLOEXEC));
    NEED(pipe(p));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    ready("nothing", 0);
    control("add", EPOLL_CTL_ADD, p[0], EPOLLIN, 0x123456789abcdef0);
    control("add again", EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    control("modify unknown", EPOLL_CTL_MOD, p[1], EPOLLIN, 1);
    control("delete unknown", EPOLL_CTL_DEL, p[1], 0, 0);
    control("closed", EPOLL_CTL_ADD, 99, EPOLLIN, 1);
    control("itself", EPOLL_CTL_ADD, ep, EPOLLIN, 1);
    int file = NEED(open("f", O_RDWR | O_CREAT, 0600));
    control("regular file", EPOLL_CTL_ADD, file, EPOLLIN, 1);
    int dir = NEED(open(".", O_RDONLY));
    control("directory", EPOLL_CTL_ADD, dir, EPOLLIN, 1);
    write(p[1], "ab", 2);
    ready("level", 0);
    ready("level again", 0);
    read(p[0], &byte, 1);
    ready("one byte left", 0);
    read(p[0], &byte, 1);
    ready("empty", 0);
    control("edge", EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 2);
    write(p[1], "a", 1);
    ready("edge", 0);
    ready("edge again", 0);
    write(p[1], "b", 1);
    ready("new edge", 0);
    control("one shot", EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 3);
    ready("one shot", 0);
    ready("spent", 0);
    control("armed", EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 4);
    ready("armed", 0);
    control("delete", EPOLL_CTL_DEL, p[0], 0, 0);
    ready("deleted", 0);

    control("eventfd edge", EPOLL_CTL_ADD, event, EPOLLIN | EPOLLET, 5);
    eventfd_write(event, 1);
    ready("written", 0);
    eventfd_write(event, 1);
    ready("every write is an edge", 0);
    eventfd_read(event, &value);
    control("eventfd level", EPOLL_CTL_MOD, event, EPOLLIN | EPOLLOUT, 6);
    ready("writable", 0);
    control("eventfd in", EPOLL_CTL_MOD, event, EPOLLIN, 7);
    pthread_t thread;
    pthread_create(&thread, NULL, later, &event);
    ready("after a sleep", -1);
    pthread_join(thread, NULL);
    eventfd_read(event, &value);
    int64_t before = now_ms();
    ready("time limit", 30);
    TRUE(now_ms() - before >= 29);

    control("socket", EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP, 8);
    ready("socket", 0);
    shutdown(s[1], SHUT_WR);
    ready("peer shut down", 0);
    close(s[1]);
    ready("peer closed", 0);
    close(s[0]);
    ready("closed ourselves", 0);

    int inner = NEED(epoll_create1(0));
    struct epoll_event nested = {.events = EPOLLIN, .data.u64 = 9};
    NEED(epoll_ctl(inner, EPOLL_CTL_ADD, p[0], &nested));
    control("nested", EPOLL_CTL_ADD, inner, EPOLLIN, 10);
    ready("nested", 0);
    struct pollfd poll_it = {ep, POLLIN, 0};
    SHOW(poll(&poll_it, 1, 0));
    while (read(p[0], &byte, 1) == 1) {
        struct pollfd more = {p[0], POLLIN, 0};
        if (poll(&more, 1, 0) == 0)
            break;
    }
    ready("nested, empty", 0);
    pthread_create(&thread, NULL, adds_later, &p[0]);
    write(p[1], "x", 1);
    control("drop nested", EPOLL_CTL_DEL, inner, 0, 0);
    ready("added by another thread while waiting", -1);
    pthread_join(thread, NULL);

    struct epoll_event out;
    SHOW(epoll_wait(ep, &out, 0, 0));
    SHOW(epoll_wait(99, &out, 1, 0));
    SHOW(epoll_wait(p[0], &out, 1, 0));
    signal(SIGUSR1, handler);
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    raise(SIGUSR1);
    read(p[0], &byte, 1);
    SHOW(epoll_pwait(ep, &out, 1, 1000, &none));
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    SHOW(sigismember(&now, SIGUSR1));
    close(p[1]);
    ready("hang-up", 0);
    pid_t child = NEED(fork());
    if (!child) { /* the set is shared across fork */
        control("delete in the child", EPOLL_CTL_DEL, p[0], 0, 0);
        _exit(0);
    }
    reap("child", child);
    ready("gone here too", 0);
    return 0;
}
