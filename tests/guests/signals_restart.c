/* Which sleeping calls a handler interrupts, with and without SA_RESTART (signal(7)). */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>

static volatile int handled;
static pid_t sender;

static void handler(int number)
{
    (void)number;
    handled++;
}

static void install(int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    handled = 0;
}

/* A child that signals the caller after a while; then, if asked, does `then`(fd). */
static void signal_me(void (*then)(int), int fd)
{
    pid_t caller = getpid();
    sender = NEED(fork());
    if (!sender) {
        nap_ms(60);
        kill(caller, SIGUSR1);
        nap_ms(60);
        if (then)
            then(fd);
        _exit(0);
    }
}

static void done(void)
{
    int status;
    while (waitpid(sender, &status, 0) < 0 && errno == EINTR)
        ;
    say("  handled %d", handled);
    handled = 0;
}

static void write_byte(int fd) { write(fd, "z", 1); }

static void each(int flags)
{
    int p[2], s[2];
    char byte;
    NEED(pipe(p));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    install(flags);
    say("%s SA_RESTART", flags ? "with" : "without");

    signal_me(write_byte, p[1]);
    SHOW(read(p[0], &byte, 1));
    done();
    if (!flags)
        read(p[0], &byte, 1);

    signal_me(write_byte, s[1]);
    SHOW(recv(s[0], &byte, 1, 0));
    done();
    if (!flags)
        recv(s[0], &byte, 1, 0);

    struct pollfd wait_for = {p[0], POLLIN, 0};
    signal_me(NULL, 0);
    SHOW(poll(&wait_for, 1, 5000));
    done();

    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timeval seconds = {5, 0};
    signal_me(NULL, 0);
    SHOW(select(p[0] + 1, &set, NULL, NULL, &seconds));
    done();

    int epoll = NEED(epoll_create1(0));
    struct epoll_event event;
    signal_me(NULL, 0);
    SHOW(epoll_wait(epoll, &event, 1, 5000));
    done();
    close(epoll);

    struct timespec long_time = {5, 0}, left = {0, 0};
    signal_me(NULL, 0);
    SHOW(nanosleep(&long_time, &left));
    TRUE(left.tv_sec == 4);
    done();

    signal_me(NULL, 0);
    SHOW(pause());
    done();

    struct timeval timeout = {5, 0};
    setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    signal_me(NULL, 0);
    SHOW(recv(s[0], &byte, 1, 0)); /* with a time limit: never restarted */
    done();

    pid_t child = NEED(fork());
    if (!child) {
        nap_ms(250);
        _exit(3);
    }
    int status = 0;
    signal_me(NULL, 0);
    pid_t result = waitpid(child, &status, 0);
    say("waitpid: %s", result == child ? "the child" : errno_name(errno));
    done();
    if (result != child)
        waitpid(child, &status, 0);

    /* flock held by a child until it ends */
    int mine = NEED(open("lock", O_RDWR | O_CREAT, 0600));
    child = NEED(fork());
    if (!child) {
        int its = open("lock", O_RDWR);
        flock(its, LOCK_EX);
        write_byte(p[1]);
        nap_ms(400);
        _exit(0);
    }
    read(p[0], &byte, 1);
    signal_me(NULL, 0);
    SHOW(flock(mine, LOCK_EX));
    done();
    waitpid(child, &status, 0);

    /* a writer that has moved some bytes reports them */
    static char big[300000];
    signal_me(NULL, 0);
    ssize_t n = write(p[1], big, sizeof big);
    say("write: %s", n == 65536 ? "what fitted" : n < 0 ? errno_name(errno) : "another amount");
    done();
    close(p[0]);
    close(p[1]);
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    scratch();
    each(0);
    each(SA_RESTART);
    return 0;
}
