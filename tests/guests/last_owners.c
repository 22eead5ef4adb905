/* Owners that end in other ways, contended PI mutexes, and full descriptor tables. */
#include "guest.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

struct shared {
    pthread_mutex_t mutex, other;
    volatile int stage;
};

static struct shared *s;
static pthread_mutex_t pi;
static volatile int counted;

static void renew(int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(&s->mutex, &attributes);
    pthread_mutex_init(&s->other, &attributes);
    s->stage = 0;
}

static void *holds(void *unused)
{
    pthread_mutex_lock(&s->mutex);
    s->stage = 1;
    for (;;)
        pause();
    return unused;
}

static void by_another_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, holds, NULL);
    while (!s->stage)
        sched_yield();
    _exit(3);
}

static void by_signal(void)
{
    pthread_mutex_lock(&s->mutex);
    pthread_mutex_lock(&s->other);
    s->stage = 1;
    raise(SIGTERM);
}

static void by_fault(void)
{
    pthread_mutex_lock(&s->mutex);
    *(volatile int *)8 = 1;
}

static void by_exec(void)
{
    pthread_mutex_lock(&s->mutex);
    execl("/proc/self/exe", "last_owners", "nothing", (char *)NULL);
}

static void while_busy(void)
{
    pthread_mutex_lock(&s->mutex);
    s->stage = 1;
    for (;;)
        ;
}

static void owner(const char *what, void (*body)(void), int kill_it, int protocol)
{
    renew(protocol);
    pid_t child = NEED(fork());
    if (!child) {
        body();
        _exit(99);
    }
    int waits = kill_it || body == by_another_thread; /* perhaps while the owner still lives */
    if (waits)
        while (!s->stage)
            sched_yield();
    else
        reap(what, child);
    if (kill_it)
        kill(child, SIGKILL);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    CODE(pthread_mutex_timedlock(&s->mutex, &until));
    CODE(pthread_mutex_consistent(&s->mutex));
    CODE(pthread_mutex_unlock(&s->mutex));
    if (waits)
        reap(what, child);
}

static void *counts(void *unused)
{
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&pi);
        counted = counted + 1;
        if (i % 64 == 0)
            sched_yield();
        pthread_mutex_unlock(&pi);
    }
    return unused;
}

static void inheritance(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    CODE(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    CODE(pthread_mutex_init(&pi, &attributes));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, counts, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    SHOW(counted);
    pthread_mutex_lock(&pi);
    pid_t child = NEED(fork());
    if (!child) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        uint32_t word = getppid();
        _exit(syscall(SYS_futex, &word, 6 /* LOCK_PI */, 0, &until, NULL, 0) == -1 && errno == ETIMEDOUT ? 4 : 5);
    }
    reap("timed lock", child);
    uint32_t nobody = 0x3ffffff0, mine = 0;
    SHOW(syscall(SYS_futex, &nobody, 6, 0, NULL, NULL, 0));
    SHOW(syscall(SYS_futex, &nobody, 7, 0, NULL, NULL, 0));
    SHOW(syscall(SYS_futex, &mine, 8, 0, NULL, NULL, 0));
    SHOW(syscall(SYS_futex, &mine, 8, 0, NULL, NULL, 0));
    SHOW(syscall(SYS_futex, (char *)&mine + 1, 6, 0, NULL, NULL, 0));
    SHOW(syscall(SYS_futex, 8, 6, 0, NULL, NULL, 0));
    pthread_mutex_unlock(&pi);
}

static void *nothing(void *unused) { return unused; }

static void full_table(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 20;
    NEED(setrlimit(RLIMIT_NOFILE, &limit));
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
        ;
    SHOW(dup(0));
    pid_t child = NEED(fork());
    if (!child) {
        getrlimit(RLIMIT_NOFILE, &limit);
        TRUE(limit.rlim_cur == 20);
        SHOW(dup(0));
        pthread_t thread;
        CODE(pthread_create(&thread, NULL, nothing, NULL));
        pthread_join(thread, NULL);
        SHOW(dup(0));
        execl("/proc/self/exe", "last_owners", "table", (char *)NULL);
        _exit(9);
    }
    reap("child", child);
    SHOW(dup(0));
    child = NEED(vfork());
    if (!child) {
        execl("/proc/self/exe", "last_owners", "nothing", (char *)NULL);
        _exit(9);
    }
    reap("after vfork", child);
}

int main(int count, char **arguments)
{
    if (count > 1 && !strcmp(arguments[1], "table")) {
        int last = -1, fd;
        while ((fd = open("/dev/null", O_RDONLY)) >= 0)
            last = fd;
        say("after exec the last one is %d", last);
        return 0;
    }
    if (count > 1)
        return 7;
    s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    owner("another thread", by_another_thread, 0, PTHREAD_PRIO_NONE);
    owner("signal", by_signal, 0, PTHREAD_PRIO_NONE);
    owner("fault", by_fault, 0, PTHREAD_PRIO_NONE);
    owner("exec", by_exec, 0, PTHREAD_PRIO_NONE);
    owner("busy", while_busy, 1, PTHREAD_PRIO_NONE);
    owner("busy with inheritance", while_busy, 1, PTHREAD_PRIO_INHERIT);
    owner("thread with inheritance", by_another_thread, 0, PTHREAD_PRIO_INHERIT);
    inheritance();
    full_table();
    return 0;
}
