/* What single system calls cost. usage: calls NAME; prints "NAME NANOSECONDS-PER-CALL 0". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

#define FAIL_IF(condition) do { if (condition) { perror(#condition); exit(1); } } while (0)
#define REPEAT(count, ...) ({ \
    for (int i = 0; i < (count) / 20 + 1; i++) { __VA_ARGS__; } \
    uint64_t started_ = now_ns(); \
    for (int i = 0; i < (count); i++) { __VA_ARGS__; } \
    (double)(now_ns() - started_) / (count); })

static char path[] = "/tmp/calls-XXXXXX";
static char block[4096];

static int file(void)
{
    int fd = mkstemp(path);
    FAIL_IF(fd < 0 || write(fd, block, sizeof block) != sizeof block);
    return fd;
}

static double call_getppid(void) { return REPEAT(1000000, syscall(SYS_getppid)); }

static double call_read(void)
{
    int fd = open("/dev/zero", O_RDONLY);
    return REPEAT(500000, FAIL_IF(read(fd, block, 1) != 1));
}

static double call_write(void)
{
    int fd = open("/dev/null", O_WRONLY);
    return REPEAT(500000, FAIL_IF(write(fd, block, 1) != 1));
}

static double call_pread(void)
{
    int fd = file();
    return REPEAT(300000, FAIL_IF(pread(fd, block, 4096, 0) != 4096));
}

static double call_pipe(void)
{
    int down[2], up[2];
    FAIL_IF(pipe(down) || pipe(up));
    pid_t pid = fork();
    if (!pid) {
        char byte;
        close(down[1]);
        while (read(down[0], &byte, 1) == 1)
            FAIL_IF(write(up[1], &byte, 1) != 1);
        _exit(0);
    }
    close(down[0]);
    double cost = REPEAT(30000, FAIL_IF(write(down[1], block, 1) != 1 || read(up[0], block, 1) != 1));
    close(down[1]);
    waitpid(pid, NULL, 0);
    return cost;
}

static uint32_t turn;

static void futex_hand_over(uint32_t from, uint32_t to)
{
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != from)
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, to, NULL, NULL, 0);
    __atomic_store_n(&turn, to, __ATOMIC_RELEASE);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *futex_partner(void *rounds)
{
    for (long i = 0; i < (long)rounds; i++)
        futex_hand_over(1, 0);
    return NULL;
}

static double call_futex(void)
{
    pthread_t thread;
    enum { ROUNDS = 30000 };
    pthread_create(&thread, NULL, futex_partner, (void *)(long)(ROUNDS + ROUNDS / 20 + 1));
    double cost = REPEAT(ROUNDS, futex_hand_over(0, 1));
    pthread_join(thread, NULL);
    return cost;
}

static double call_epoll(void)
{
    int ep = epoll_create1(0), fd = eventfd(1, 0);
    struct epoll_event event = {.events = EPOLLIN};
    FAIL_IF(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    return REPEAT(300000, FAIL_IF(epoll_wait(ep, &event, 1, -1) != 1));
}

static double call_mmap(void)
{
    return REPEAT(100000, {
        char *a = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        FAIL_IF(a == MAP_FAILED);
        munmap(a, 16384);
    });
}

static double call_stat(void)
{
    struct stat s;
    close(file());
    return REPEAT(50000, FAIL_IF(stat(path, &s)));
}

static double call_open(void)
{
    close(file());
    return REPEAT(30000, {
        int fd = open(path, O_RDONLY);
        FAIL_IF(fd < 0);
        close(fd);
    });
}

static double call_readlink(void)
{
    close(file());
    unlink(path);
    FAIL_IF(symlink("/some/target", path));
    return REPEAT(50000, FAIL_IF(readlink(path, block, sizeof block) != 12));
}

static double call_fork(void)
{
    return REPEAT(2000, {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        FAIL_IF(waitpid(pid, NULL, 0) != pid);
    });
}

static double call_exec(void)
{
    return REPEAT(300, {
        pid_t pid = fork();
        if (!pid) {
            execl("/proc/self/exe", "calls", "nothing", (char *)NULL);
            _exit(1);
        }
        FAIL_IF(waitpid(pid, NULL, 0) != pid);
    });
}

int main(int count, char **arguments)
{
    static const struct { const char *name; double (*run)(void); } all[] = {
        {"getppid", call_getppid}, {"read-1", call_read}, {"write-1", call_write}, {"pread-4k", call_pread},
        {"pipe-ping-pong", call_pipe}, {"futex-ping-pong", call_futex}, {"epoll-wait-ready", call_epoll},
        {"mmap+munmap", call_mmap}, {"stat", call_stat}, {"open+close", call_open},
        {"readlink", call_readlink}, {"fork+wait", call_fork}, {"fork+exec+wait", call_exec},
    };
    if (count == 2 && !strcmp(arguments[1], "nothing"))
        return 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (count == 2 && !strcmp(arguments[1], all[i].name)) {
            double cost = all[i].run();
            unlink(path);
            printf("%s %.1f 0\n", all[i].name, cost);
            return 0;
        }
    return 2;
}
