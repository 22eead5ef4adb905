/* Pipes and FIFOs: ends, EOF, EPIPE, sizes, packets, splice and tee. */
#include "guest.h"
#include <sys/ioctl.h>
#include <sys/uio.h>

static void ends(void)
{
    int p[2];
    char text[16] = "";
    SHOW(pipe(p));
    SHOW(write(p[1], "abc", 3));
    int waiting = 0;
    SHOW(ioctl(p[0], FIONREAD, &waiting));
    SHOW(waiting);
    SHOW(read(p[0], text, 2));
    SHOW(lseek(p[0], 0, SEEK_SET));
    SHOW(write(p[0], "x", 1));
    SHOW(read(p[1], text, 1));
    close(p[1]);
    SHOW(read(p[0], text, 16));
    SHOW(read(p[0], text, 16));
    close(p[0]);
    NEED(pipe(p));
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(p[1], "x", 1));
    pid_t child = NEED(fork());
    if (!child) {
        signal(SIGPIPE, SIG_DFL);
        write(p[1], "x", 1);
        _exit(5);
    }
    reap("writer", child);
    close(p[1]);
}

static void nonblocking(void)
{
    int p[2];
    char block[4096] = {0};
    SHOW(pipe2(p, O_NONBLOCK | O_CLOEXEC));
    SHOW(fcntl(p[0], F_GETFD));
    SHOW(read(p[0], block, 1));
    int total = 0;
    for (ssize_t n; (n = write(p[1], block, sizeof block)) > 0;)
        total += n;
    say("full at %d: %s", total, errno_name(errno));
    SHOW(fcntl(p[1], F_GETPIPE_SZ));
    SHOW(fcntl(p[1], F_SETPIPE_SZ, 131072));
    SHOW(write(p[1], block, sizeof block));
    struct pollfd both[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    SHOW(poll(both, 2, 0));
    say("revents %x %x", both[0].revents, both[1].revents);
    close(p[1]);
    while (read(p[0], block, sizeof block) > 0)
        ;
    SHOW(poll(both, 1, 0));
    say("revents %x", both[0].revents);
    close(p[0]);
    SHOW(pipe2(p, 0x1));
}

static void packets(void)
{
    int p[2];
    char text[16] = "";
    if (OK(pipe2(p, O_DIRECT)) < 0)
        return;
    write(p[1], "one", 3);
    write(p[1], "three", 5);
    SHOW(read(p[0], text, 16));
    SHOW(read(p[0], text, 2));
    close(p[1]);
    SHOW(read(p[0], text, 16));
    close(p[0]);
}

static void across_fork(void)
{
    int p[2], q[2];
    NEED(pipe(p));
    NEED(pipe(q));
    pid_t child = NEED(fork());
    if (!child) {
        close(p[1]);
        close(q[0]);
        char text[64];
        long sum = 0;
        for (ssize_t n; (n = read(p[0], text, sizeof text)) > 0;)
            for (ssize_t i = 0; i < n; i++)
                sum += text[i];
        write(q[1], &sum, sizeof sum);
        _exit(0);
    }
    close(p[0]);
    close(q[1]);
    long expected = 0, got = 0;
    for (int i = 0; i < 100000; i++) {
        char byte = i % 100;
        expected += byte;
        if (i % 2000 == 0)
            write(p[1], "", 1);
        write(p[1], &byte, 1);
    }
    close(p[1]);
    SHOW(read(q[0], &got, sizeof got));
    TRUE(expected == got);
    reap("summer", child);
    close(q[0]);
}

static void fifo(void)
{
    char text[16] = "";
    NEED(mkfifo("fifo", 0600));
    SHOW(open("fifo", O_WRONLY | O_NONBLOCK));
    int fd = OK(open("fifo", O_RDONLY | O_NONBLOCK));
    close(fd);
    pid_t child = NEED(fork());
    if (!child) {
        int out = open("fifo", O_WRONLY); /* sleeps until the reader opens */
        write(out, "through", 7);
        _exit(0);
    }
    fd = NEED(open("fifo", O_RDONLY));
    SHOW(read(fd, text, 16));
    say("%s", text);
    reap("fifo writer", child);
    SHOW(read(fd, text, 16));
    close(fd);
    child = NEED(fork());
    if (!child) {
        int in = open("fifo", O_RDONLY);
        _exit(read(in, text, 16));
    }
    fd = NEED(open("fifo", O_WRONLY));
    write(fd, "12345", 5);
    close(fd);
    reap("fifo reader", child);
    fd = OK(open("fifo", O_RDWR));
    SHOW(write(fd, "both", 4));
    SHOW(read(fd, text, 16));
    close(fd);
}

static void moving(void)
{
    int p[2], q[2];
    char text[16] = "";
    NEED(pipe(p));
    NEED(pipe(q));
    put("source", "spliced text");
    int fd = NEED(open("source", O_RDONLY));
    SHOW(splice(fd, NULL, p[1], NULL, 7, 0));
    SHOW(tee(p[0], q[1], 16, 0));
    SHOW(read(q[0], text, 16));
    say("%s", text);
    struct iovec piece = {"more", 4};
    SHOW(vmsplice(q[1], &piece, 1, 0));
    int out = NEED(open("sink", O_RDWR | O_CREAT, 0600));
    SHOW(splice(p[0], NULL, out, NULL, 16, 0));
    SHOW(splice(q[0], NULL, out, NULL, 16, 0));
    cat("sink");
    SHOW(splice(fd, NULL, out, NULL, 1, 0));
}

int main(void)
{
    scratch();
    ends();
    nonblocking();
    packets();
    across_fork();
    fifo();
    moving();
    return 0;
}
