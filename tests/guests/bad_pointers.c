/* Pointers that lead nowhere give EFAULT and harm nothing. */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define BAD ((void *)16)
/* Straight to the kernel: the library would touch the pointer itself. */
#define RAW(...) ({ errno = 0; long r_ = syscall(__VA_ARGS__); show(#__VA_ARGS__, r_, errno); })

static void wakes(int number)
{
    (void)number;
}

int main(void)
{
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = wakes}, NULL);
    scratch();
    put("f", "0123456789");
    int fd = NEED(open("f", O_RDWR)), dir = NEED(open(".", O_RDONLY)), epoll = NEED(epoll_create1(0)), p[2], s[2];
    NEED(pipe(p));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    /* A readable page followed by nothing. */
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_NONE);
    char *edge = page + 4096;
    const char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    RAW(SYS_read, fd, BAD, 5);
    RAW(SYS_read, fd, ro, 5);
    RAW(SYS_write, fd, BAD, 5);
    RAW(SYS_write, p[1], BAD, 5);
    RAW(SYS_pread64, fd, BAD, 5, 0);
    RAW(SYS_openat, AT_FDCWD, NULL, O_RDONLY);
    RAW(SYS_openat, AT_FDCWD, BAD, O_RDONLY);
    memcpy(edge - 1, "f", 1); /* a name that runs off the page */
    RAW(SYS_openat, AT_FDCWD, edge - 1, O_RDONLY);
    memcpy(edge - 2, "f", 2); /* and one that just fits */
    OK(syscall(SYS_openat, AT_FDCWD, edge - 2, O_RDONLY));
    RAW(SYS_newfstatat, AT_FDCWD, "f", BAD, 0);
    RAW(SYS_newfstatat, AT_FDCWD, "f", edge - 20, 0);
    RAW(SYS_newfstatat, AT_FDCWD, "missing", BAD, 0);
    RAW(SYS_fstat, fd, BAD);
    RAW(SYS_fstat, fd, ro);
    RAW(SYS_readlinkat, AT_FDCWD, BAD, page, 10);
    symlink("target", "l");
    RAW(SYS_readlinkat, AT_FDCWD, "l", BAD, 10);
    RAW(SYS_getcwd, BAD, 100);
    RAW(SYS_getcwd, ro, 4096);
    RAW(SYS_pipe2, BAD, 0);
    RAW(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD);
    struct iovec pieces[2] = {{page, 4}, {BAD, 4}};
    RAW(SYS_readv, fd, pieces, 2);
    RAW(SYS_readv, fd, BAD, 2);
    RAW(SYS_writev, p[1], BAD, 1);
    struct rlimit limit = {0};
    RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, BAD);
    RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, BAD, &limit);
    RAW(SYS_rt_sigaction, SIGUSR1, BAD, NULL, 8);
    RAW(SYS_rt_sigaction, SIGUSR1, NULL, BAD, 8);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, BAD, NULL, 8);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, NULL, BAD, 8);
    RAW(SYS_rt_sigprocmask, SIG_BLOCK, NULL, page, 7);
    RAW(SYS_sigaltstack, BAD, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 200000}, {0, 200000}}, NULL);
    RAW(SYS_nanosleep, BAD, NULL); /* an emulator may sleep, for ever if nothing woke it */
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    RAW(SYS_clock_gettime, CLOCK_MONOTONIC, BAD);
    RAW(SYS_ppoll, BAD, 1, NULL, NULL, 8);
    RAW(SYS_uname, BAD);
    RAW(SYS_getdents64, dir, BAD, 1000);
    RAW(SYS_getdents64, fd, page, 1000);
    RAW(SYS_statfs, ".", BAD);
    RAW(SYS_wait4, -1, BAD, WNOHANG, NULL);
    RAW(SYS_execve, BAD, NULL, NULL);
    put("program", "#!/bin/sh\n");
    chmod("program", 0755);
    RAW(SYS_execve, "program", BAD, NULL);
    RAW(SYS_bind, s[0], BAD, 16);
    RAW(SYS_getsockname, s[0], BAD, BAD);
    RAW(SYS_sendmsg, s[0], BAD, 0);
    RAW(SYS_recvmsg, s[0], BAD, 0);
    RAW(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, p[0], BAD);
    RAW(SYS_getrandom, BAD, 10, 0);
    RAW(SYS_mkdirat, AT_FDCWD, BAD, 0755);
    RAW(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, BAD, 0);
    RAW(SYS_symlinkat, BAD, AT_FDCWD, "x");
    RAW(SYS_utimensat, AT_FDCWD, "f", BAD, 0);
    RAW(SYS_statx, AT_FDCWD, "f", 0, 0x7ff, BAD);
    RAW(SYS_read, fd, (void *)0xffff800000000000, 5);
    RAW(SYS_newfstatat, AT_FDCWD, (void *)0xffff800000000000, page, 0);
    RAW(SYS_newfstatat, AT_FDCWD, "f", (void *)0xffff800000000000, 0);
    pid_t child = NEED(fork());
    if (!child) {
        syscall(SYS_rt_sigreturn); /* a frame of nonsense: a fault, and only ours */
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    TRUE(WIFSIGNALED(status) || WIFEXITED(status));
    say("still here");
    return 0;
}
