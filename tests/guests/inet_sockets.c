/* Loopback TCP and UDP. Port numbers are never printed. */
#include "guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

static struct sockaddr_in at(const char *ip, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &address.sin_addr);
    return address;
}

static struct sockaddr_in own(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    SHOW(getsockname(fd, (struct sockaddr *)&address, &size));
    return address;
}

static void tcp(const char *bind_ip)
{
    char text[64], ip[32];
    int server = NEED(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    say("bound to %s", bind_ip);
    SHOW(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    struct sockaddr_in address = at(bind_ip, 0);
    SHOW(bind(server, (struct sockaddr *)&address, sizeof address));
    SHOW(listen(server, 10));
    address = own(server);
    say("listening on %s, port %s", inet_ntop(AF_INET, &address.sin_addr, ip, sizeof ip),
        address.sin_port ? "given" : "MISSING");
    int port = ntohs(address.sin_port);
    pid_t child = NEED(fork());
    if (!child) {
        int fd = accept(server, NULL, NULL);
        ssize_t n;
        while ((n = read(fd, text, sizeof text)) > 0) {
            for (ssize_t i = 0; i < n; i++)
                text[i] ^= 0x20;
            write(fd, text, n);
        }
        _exit(0);
    }
    int client = NEED(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in to = at("127.0.0.1", port), peer;
    SHOW(connect(client, (struct sockaddr *)&to, sizeof to));
    SHOW(connect(client, (struct sockaddr *)&to, sizeof to));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    SHOW(write(client, "ECHO", 4));
    memset(text, 0, sizeof text);
    SHOW(recv(client, text, 4, MSG_WAITALL));
    say("%s", text);
    socklen_t size = sizeof peer;
    SHOW(getpeername(client, (struct sockaddr *)&peer, &size));
    TRUE(ntohs(peer.sin_port) == port && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    struct sockaddr_in mine = own(client);
    TRUE(mine.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && mine.sin_port);
    struct iovec pieces[2] = {{"SCATTER", 7}, {"ED", 2}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    SHOW(sendmsg(client, &message, MSG_NOSIGNAL));
    SHOW(recv(client, text, 9, MSG_WAITALL | MSG_PEEK));
    SHOW(recv(client, text, 9, MSG_WAITALL));
    SHOW(shutdown(client, SHUT_WR));
    SHOW(read(client, text, 1));
    reap("echo server", child);
    close(client);
    close(server);
    client = NEED(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(connect(client, (struct sockaddr *)&to, sizeof to)); /* nobody listens any more */
    close(client);
}

static void errors(void)
{
    int a = NEED(socket(AF_INET, SOCK_STREAM, 0)), b = NEED(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in address = at("127.0.0.1", 0);
    NEED(bind(a, (struct sockaddr *)&address, sizeof address));
    NEED(listen(a, 1));
    address = own(a);
    SHOW(bind(b, (struct sockaddr *)&address, sizeof address));
    struct sockaddr_in foreign = at("8.8.8.8", 0);
    SHOW(bind(b, (struct sockaddr *)&foreign, sizeof foreign));
    SHOW(send(b, "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(b, SHUT_RD));
    SHOW(accept(b, NULL, NULL));
    SHOW(bind(b, (struct sockaddr *)&address, 3));
    SHOW(listen(0x7fffffff, 1));
    int file = NEED(open("f", O_CREAT | O_RDWR, 0600));
    SHOW(connect(file, (struct sockaddr *)&address, sizeof address));
    SHOW(fcntl(a, F_SETFL, O_NONBLOCK));
    SHOW(accept(a, NULL, NULL));
    SHOW(fcntl(b, F_SETFL, O_NONBLOCK));
    int started = connect(b, (struct sockaddr *)&address, sizeof address);
    say("connect: %s", started == 0 || errno == EINPROGRESS ? "begun" : errno_name(errno));
    struct pollfd wait_for = {b, POLLOUT, 0};
    SHOW(poll(&wait_for, 1, 5000));
    int error = -1;
    socklen_t size = sizeof error;
    SHOW(getsockopt(b, SOL_SOCKET, SO_ERROR, &error, &size));
    SHOW(error);
    wait_for.fd = a;
    wait_for.events = POLLIN;
    SHOW(poll(&wait_for, 1, 5000));
    int peer = OK(accept4(a, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    char byte;
    SHOW(read(peer, &byte, 1));
    write(b, "abc", 3);
    wait_for.fd = peer;
    SHOW(poll(&wait_for, 1, 5000));
    int waiting = 0;
    SHOW(ioctl(peer, FIONREAD, &waiting));
    SHOW(waiting);
    struct linger now = {1, 0};
    SHOW(setsockopt(b, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    read(peer, &byte, 1);
    close(b); /* sends a reset */
    wait_for.events = POLLIN;
    poll(&wait_for, 1, 5000);
    char rest[8];
    ssize_t n;
    while ((n = read(peer, rest, sizeof rest)) > 0)
        ;
    say("after a reset: %s", n < 0 ? errno_name(errno) : "end");
    SHOW(getsockopt(a, SOL_SOCKET, 9999, &error, &size));
    SHOW(setsockopt(a, IPPROTO_TCP, 9999, &error, sizeof error));
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
}

static void udp(void)
{
    int a = NEED(socket(AF_INET, SOCK_DGRAM, 0)), b = NEED(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in address = at("127.0.0.1", 0), from;
    SHOW(bind(a, (struct sockaddr *)&address, sizeof address));
    struct sockaddr_in a_name = own(a);
    char text[32] = "";
    SHOW(sendto(b, "datagram", 8, 0, (struct sockaddr *)&a_name, sizeof a_name));
    socklen_t size = sizeof from;
    SHOW(recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &size));
    say("%s", text);
    TRUE(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && from.sin_port);
    SHOW(sendto(a, "answer", 6, 0, (struct sockaddr *)&from, size));
    SHOW(recv(b, text, 3, MSG_TRUNC));
    SHOW(connect(b, (struct sockaddr *)&a_name, sizeof a_name));
    struct iovec one = {"1", 1}, two = {"22", 2};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}},
        {.msg_hdr = {.msg_iov = &two, .msg_iovlen = 1}}};
    SHOW(sendmmsg(b, messages, 2, 0));
    SHOW(recv(a, text, 32, 0));
    SHOW(recv(a, text, 32, 0));
    SHOW(recv(a, text, 32, MSG_DONTWAIT));
    SHOW(send(b, text, 0, 0));
    SHOW(recv(a, text, 32, 0));
    struct timeval limit = {0, 30000};
    SHOW(setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    int64_t before = now_ms();
    SHOW(recv(a, text, 32, 0));
    TRUE(now_ms() - before >= 25);
    int dead = NEED(socket(AF_INET, SOCK_DGRAM, 0));
    NEED(bind(dead, (struct sockaddr *)&address, sizeof address));
    struct sockaddr_in dead_name = own(dead);
    close(dead);
    NEED(connect(b, (struct sockaddr *)&dead_name, sizeof dead_name));
    SHOW(send(b, "x", 1, 0));
    struct pollfd wait_for = {b, POLLIN, 0};
    poll(&wait_for, 1, 5000);
    SHOW(recv(b, text, 32, MSG_DONTWAIT));
}

int main(void)
{
    scratch();
    tcp("127.0.0.1");
    tcp("0.0.0.0");
    errors();
    udp();
    return 0;
}
