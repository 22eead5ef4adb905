/* futex(2) itself, within a process and between processes. */
#include "guest.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>

static uint32_t word, other;
static volatile int stage;

static long futex(uint32_t *address, int op, uint32_t value, void *timeout, uint32_t *second, uint32_t third)
{
    return syscall(SYS_futex, address, op, value, timeout, second, third);
}

static void *wait_private(void *unused)
{
    (void)unused;
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    long result;
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0) {
        result = futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (result == 0)
            return (void *)1;
    }
    return (void *)0;
}

static void *wait_bits(void *bits)
{
    __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST);
    return (void *)futex(&other, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (uint32_t)(long)bits);
}

/* Wake until `wanted` sleepers were woken: they may not sleep yet. */
static int wake_all(uint32_t *address, int op, int wanted, uint32_t bits)
{
    int woken = 0;
    for (int64_t until = now_ms() + 10000; woken < wanted && now_ms() < until;) {
        long n = futex(address, op, wanted - woken, NULL, NULL, bits);
        woken += n > 0 ? n : 0;
        sched_yield();
    }
    return woken;
}

static void simple(void)
{
    word = 7;
    SHOW(futex(&word, FUTEX_WAIT_PRIVATE, 8, NULL, NULL, 0));
    SHOW(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
    struct timespec short_time = {0, 20000000};
    int64_t before = now_ms();
    SHOW(futex(&word, FUTEX_WAIT_PRIVATE, 7, &short_time, NULL, 0));
    TRUE(now_ms() - before >= 19);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    SHOW(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 7, &until, NULL, FUTEX_BITSET_MATCH_ANY));
    clock_gettime(CLOCK_REALTIME, &until);
    SHOW(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 7, &until, NULL, FUTEX_BITSET_MATCH_ANY));
    SHOW(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 7, &until, NULL, 0));
    struct timespec bad = {0, 2000000000};
    SHOW(futex(&word, FUTEX_WAIT_PRIVATE, 7, &bad, NULL, 0));
    SHOW(futex((uint32_t *)8, FUTEX_WAIT_PRIVATE, 7, NULL, NULL, 0));
    SHOW(futex((uint32_t *)((char *)&word + 1), FUTEX_WAIT_PRIVATE, 7, NULL, NULL, 0));
    SHOW(futex(&word, 99, 0, NULL, NULL, 0));
}

static void threads(void)
{
    pthread_t sleepers[4];
    void *result;
    word = 0;
    stage = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&sleepers[i], NULL, wait_private, NULL);
    while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < 4)
        sched_yield();
    int woken = wake_all(&word, FUTEX_WAKE_PRIVATE, 4, 0);
    word = 1;
    long total = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(sleepers[i], &result);
        total += (long)result;
    }
    say("woken %d, returned 0 in %ld", woken, total);
    pthread_t one, two;
    pthread_create(&one, NULL, wait_bits, (void *)1L);
    pthread_create(&two, NULL, wait_bits, (void *)2L);
    say("bit 2 woke %d", wake_all(&other, FUTEX_WAKE_BITSET_PRIVATE, 1, 2));
    pthread_join(two, &result);
    say("bit 1 woke %d", wake_all(&other, FUTEX_WAKE_BITSET_PRIVATE, 1, 1));
    pthread_join(one, &result);
}

static void requeue(void)
{
    pthread_t sleepers[3];
    void *result;
    word = 0;
    other = 0;
    stage = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&sleepers[i], NULL, wait_private, NULL);
    SHOW(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &other, 5));
    /* Returns woken + moved. Linux puts a moved sleeper back to the first word when a late wake-up of an
       earlier sleep reaches it (kernel/futex/waitwake.c: "we might be the victim of a spurious wakeup"):
       move until two were woken at the other word. */
    int woken = 0, woken_at_other = 0;
    for (int64_t until = now_ms() + 10000; woken_at_other < 2 && now_ms() < until; sched_yield()) {
        if (futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, woken ? 0 : 1, (void *)10L, &other, 0) > 0)
            woken = 1;
        if (woken)
            woken_at_other += futex(&other, FUTEX_WAKE_PRIVATE, 2 - woken_at_other, NULL, NULL, 0);
    }
    say("woken %d, at the other word %d", woken, woken_at_other);
    word = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(sleepers[i], &result);
    /* WAKE_OP: other = 5 + 2, compare the old value with 5 */
    other = 5;
    int op = FUTEX_OP(FUTEX_OP_ADD, 2, FUTEX_OP_CMP_EQ, 5);
    SHOW(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, &other, op));
    SHOW(other);
}

static void processes(void)
{
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = NEED(fork());
    if (!child) {
        for (int round = 0; round < 1000; round++) {
            while (__atomic_load_n(&shared[0], __ATOMIC_SEQ_CST) != (uint32_t)round * 2 + 1)
                futex(&shared[0], FUTEX_WAIT, round * 2, NULL, NULL, 0);
            __atomic_store_n(&shared[0], round * 2 + 2, __ATOMIC_SEQ_CST);
            futex(&shared[0], FUTEX_WAKE, 1, NULL, NULL, 0);
        }
        _exit(0);
    }
    for (int round = 0; round < 1000; round++) {
        __atomic_store_n(&shared[0], round * 2 + 1, __ATOMIC_SEQ_CST);
        futex(&shared[0], FUTEX_WAKE, 1, NULL, NULL, 0);
        while (__atomic_load_n(&shared[0], __ATOMIC_SEQ_CST) != (uint32_t)round * 2 + 2)
            futex(&shared[0], FUTEX_WAIT, round * 2 + 1, NULL, NULL, 0);
    }
    reap("ping-pong", child);
    SHOW(shared[0]);
    /* The same page at another address is the same futex. */
    int fd = NEED(syscall(SYS_memfd_create, "word", 0));
    NEED(ftruncate(fd, 4096));
    uint32_t *first = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint32_t *second = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRUE(first != second);
    child = NEED(fork());
    if (!child)
        _exit(futex(first, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 3 : 4);
    say("woken through the alias: %d", wake_all(second, FUTEX_WAKE, 1, 0));
    reap("alias sleeper", child);
}

static void priority_inheritance(void)
{
    uint32_t lock = 0;
    SHOW(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    TRUE((lock & FUTEX_TID_MASK) == (uint32_t)syscall(SYS_gettid));
    SHOW(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    SHOW(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    SHOW(lock);
    lock = 1;
    SHOW(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
}

int main(void)
{
    simple();
    threads();
    requeue();
    processes();
    priority_inheritance();
    return 0;
}
