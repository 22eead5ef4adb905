/* AF_UNIX: kinds, names, passing descriptors and credentials. */
#include "guest.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un name_of(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    return name;
}

static socklen_t length_of(const char *path) { return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1; }

static int bind_to(int fd, const char *path)
{
    struct sockaddr_un name = name_of(path);
    return bind(fd, (struct sockaddr *)&name, length_of(path));
}

static int connect_to(int fd, const char *path)
{
    struct sockaddr_un name = name_of(path);
    return connect(fd, (struct sockaddr *)&name, length_of(path));
}

static void pairs(void)
{
    int s[2];
    char text[16] = "";
    SHOW(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
    SHOW(write(s[0], "stream", 6));
    SHOW(read(s[1], text, 3));
    SHOW(recv(s[1], text, 16, MSG_PEEK));
    SHOW(recv(s[1], text, 16, 0));
    SHOW(recv(s[1], text, 16, MSG_DONTWAIT));
    SHOW(shutdown(s[0], SHUT_WR));
    SHOW(read(s[1], text, 16));
    SHOW(send(s[0], "x", 1, MSG_NOSIGNAL));
    SHOW(write(s[1], "back", 4));
    SHOW(read(s[0], text, 16));
    close(s[0]);
    SHOW(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[1]);
    SHOW(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    send(s[0], "one", 3, 0);
    send(s[0], "two!", 4, 0);
    SHOW(recv(s[1], text, 2, MSG_TRUNC));
    SHOW(recv(s[1], text, 16, 0));
    close(s[0]);
    close(s[1]);
    SHOW(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s));
    send(s[0], "one", 3, 0);
    send(s[0], "four", 4, 0);
    SHOW(recv(s[1], text, 16, 0));
    SHOW(recv(s[1], text, 16, 0));
    close(s[0]);
    SHOW(recv(s[1], text, 16, 0));
    close(s[1]);
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, s));
    SHOW(socket(AF_UNIX, 99, 0));
    SHOW(socket(99, SOCK_STREAM, 0));
}

static void names(void)
{
    struct sockaddr_un name;
    socklen_t size = sizeof name;
    struct stat s;
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect_to(server, "missing"));
    SHOW(bind_to(server, "sock"));
    SHOW(bind_to(server, "other"));
    SHOW(stat("sock", &s));
    TRUE(S_ISSOCK(s.st_mode));
    int client = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect_to(client, "sock"));
    SHOW(listen(server, 5));
    SHOW(connect_to(client, "sock"));
    SHOW(connect_to(client, "sock"));
    int peer = OK(accept4(server, (struct sockaddr *)&name, &size, SOCK_CLOEXEC));
    SHOW(size);
    SHOW(write(client, "hi", 2));
    char text[8] = "";
    SHOW(read(peer, text, 8));
    size = sizeof name;
    SHOW(getsockname(peer, (struct sockaddr *)&name, &size));
    say("name %s", name.sun_path);
    size = sizeof name;
    SHOW(getpeername(client, (struct sockaddr *)&name, &size));
    say("peer %s size %u", name.sun_path, size);
    size = sizeof name;
    SHOW(getpeername(server, (struct sockaddr *)&name, &size));
    struct ucred who;
    size = sizeof who;
    SHOW(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &size));
    TRUE(who.pid == getpid() && who.uid == getuid() && who.gid == getgid());
    int value = 0;
    size = sizeof value;
    SHOW(getsockopt(server, SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
    SHOW(value);
    SHOW(getsockopt(server, SOL_SOCKET, SO_TYPE, &value, &size));
    TRUE(value == SOCK_STREAM);
    int again = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(bind_to(again, "sock"));
    SHOW(bind_to(again, "missing/sock"));
    SHOW(unlink("sock"));
    SHOW(connect_to(again, "sock"));
    SHOW(bind_to(again, "sock"));
    close(server);
    put("plain", "");
    int other = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect_to(other, "plain"));
    SHOW(open("sock", O_RDONLY));
    char longest[200];
    memset(longest, 'p', sizeof longest);
    name.sun_family = AF_UNIX;
    memcpy(name.sun_path, longest, sizeof name.sun_path);
    SHOW(bind(other, (struct sockaddr *)&name, sizeof name)); /* 108 bytes without a NUL */
    struct stat long_one;
    longest[108] = 0;
    SHOW(stat(longest, &long_one));
    int fd = NEED(open("plain", O_RDONLY));
    SHOW(listen(fd, 1));
    SHOW(listen(99, 1));
}

static void abstract(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, "\0guest-abstract", 15);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 15;
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0)), client = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect(client, (struct sockaddr *)&name, size));
    SHOW(bind(server, (struct sockaddr *)&name, size));
    SHOW(listen(server, 1));
    SHOW(connect(client, (struct sockaddr *)&name, size));
    struct sockaddr_un seen;
    socklen_t seen_size = sizeof seen;
    SHOW(getsockname(server, (struct sockaddr *)&seen, &seen_size));
    TRUE(seen_size == size && !memcmp(seen.sun_path, name.sun_path, 15));
    int automatic = NEED(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un none = {.sun_family = AF_UNIX};
    SHOW(bind(automatic, (struct sockaddr *)&none, sizeof none.sun_family));
    seen_size = sizeof seen;
    SHOW(getsockname(automatic, (struct sockaddr *)&seen, &seen_size));
    TRUE(seen_size == 2 + 6 && seen.sun_path[0] == 0);
}

static void datagrams(void)
{
    int a = NEED(socket(AF_UNIX, SOCK_DGRAM, 0)), b = NEED(socket(AF_UNIX, SOCK_DGRAM, 0));
    SHOW(bind_to(a, "dgram-a"));
    SHOW(bind_to(b, "dgram-b"));
    struct sockaddr_un to = name_of("dgram-b"), from;
    socklen_t size = sizeof from;
    char text[16] = "";
    SHOW(sendto(a, "letter", 6, 0, (struct sockaddr *)&to, sizeof to));
    SHOW(recvfrom(b, text, sizeof text, 0, (struct sockaddr *)&from, &size));
    say("\"%s\" from %s", text, from.sun_path);
    SHOW(send(a, "x", 1, 0));
    SHOW(connect_to(a, "dgram-b"));
    SHOW(send(a, "x", 1, 0));
    to = name_of("nobody");
    SHOW(sendto(b, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
}

static void passing(void)
{
    int s[2], on = 1;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SHOW(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t child = NEED(fork());
    if (!child) {
        int fds[2] = {open("passed", O_RDWR | O_CREAT, 0600), open("passed", O_RDONLY)};
        write(fds[0], "through a socket", 16);
        char control[CMSG_SPACE(sizeof fds)];
        struct iovec piece = {"!", 1};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        memset(control, 0, sizeof control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(c), fds, sizeof fds);
        _exit(sendmsg(s[0], &message, 0) == 1 ? 0 : 1);
    }
    char byte, control[256], text[32] = "";
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    SHOW(recvmsg(s[1], &message, MSG_CMSG_CLOEXEC));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_type == SCM_RIGHTS) {
            int fds[2];
            say("rights: %d", (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
            memcpy(fds, CMSG_DATA(c), sizeof fds);
            SHOW(read(fds[1], text, sizeof text - 1));
            say("%s", text);
            SHOW(fcntl(fds[0], F_GETFD));
            SHOW(write(fds[0], "+", 1));
        } else if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(c), sizeof who);
            say("credentials of the child %d, user %d", who.pid == child, who.uid == getuid());
        }
    }
    reap("sender", child);
    cat("passed");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    scratch();
    pairs();
    names();
    abstract();
    datagrams();
    passing();
    return 0;
}
