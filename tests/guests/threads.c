/* POSIX threads: creation, joining, thread-local storage, every kind of lock. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>

static __thread int local = 5;
static __thread char local_text[32] = "initial";
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t semaphore;
static long counter;
static int turn, once_count, destroyed;

static void *tls(void *argument)
{
    long n = (long)argument;
    int initial = local == 5 && !strcmp(local_text, "initial");
    local += n;
    snprintf(local_text, sizeof local_text, "thread %ld", n);
    sched_yield();
    char expected[32];
    snprintf(expected, sizeof expected, "thread %ld", n);
    return (void *)(long)(initial && local == 5 + n && !strcmp(local_text, expected));
}

static void *adder(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *taker(void *argument)
{
    long n = (long)argument;
    pthread_mutex_lock(&mutex);
    while (turn != n)
        pthread_cond_wait(&condition, &mutex);
    say("turn %ld", n);
    turn++;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    return argument;
}

static void *meet(void *unused)
{
    (void)unused;
    return (void *)(long)(pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD);
}

static void *reader(void *unused)
{
    (void)unused;
    pthread_rwlock_rdlock(&rwlock);
    long seen = counter;
    pthread_rwlock_unlock(&rwlock);
    return (void *)seen;
}

static void count_once(void) { once_count++; }
static void destroy(void *value) { destroyed += (int)(long)value; }

static void *with_key(void *argument)
{
    pthread_once(&once, count_once);
    pthread_setspecific(key, argument);
    return NULL;
}

static void *ids(void *unused)
{
    (void)unused;
    long tid = syscall(SYS_gettid);
    return (void *)(long)(tid != getpid() && tid > 0 && !kill(getpid(), 0));
}

static void *exits(void *argument)
{
    pthread_exit((void *)((long)argument * 2));
}

static void *waits_forever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

static void *naps(void *unused)
{
    (void)unused;
    nap_ms(20);
    return NULL;
}

static void *posts(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        sem_post(&semaphore);
    return NULL;
}

static void many(int count, void *(*body)(void *), long *sum)
{
    pthread_t threads[128];
    *sum = 0;
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, body, (void *)i))
            say("pthread_create failed");
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        *sum += (long)result;
    }
}

int main(int count, char **arguments)
{
    long sum;
    pthread_t thread;
    if (count > 1 && !strcmp(arguments[1], "leave")) {
        pthread_create(&thread, NULL, naps, NULL);
        pthread_exit(NULL); /* the process ends with its last thread */
    }
    many(16, tls, &sum);
    say("own storage in %ld of 16, main's is %d %s", sum, local, local_text);
    many(4, adder, &sum);
    say("counter %ld", counter);
    many(8, taker, &sum);
    say("turns returned %ld", sum);
    pthread_barrier_init(&barrier, NULL, 10);
    many(10, meet, &sum);
    say("serial threads %ld", sum);
    many(20, reader, &sum);
    say("readers saw %ld", sum);
    pthread_key_create(&key, destroy);
    many(7, with_key, &sum);
    say("once %d, destroyed sum %d", once_count, destroyed);
    many(9, ids, &sum);
    say("own tids %ld", sum);
    many(100, exits, &sum);
    say("exit values %ld", sum);
    sem_init(&semaphore, 0, 0);
    pthread_create(&thread, NULL, posts, NULL);
    for (int i = 0; i < 10; i++)
        sem_wait(&semaphore);
    pthread_join(thread, NULL);
    SHOW(sem_trywait(&semaphore));
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    SHOW(sem_timedwait(&semaphore, &until));
    pthread_mutex_lock(&mutex);
    CODE(pthread_cond_timedwait(&condition, &mutex, &until));
    CODE(pthread_mutex_trylock(&mutex));
    pthread_mutex_unlock(&mutex);
    pthread_create(&thread, NULL, waits_forever, NULL);
    CODE(pthread_cancel(thread));
    void *result;
    CODE(pthread_join(thread, &result));
    TRUE(result == PTHREAD_CANCELED);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    CODE(pthread_create(&thread, &attributes, posts, NULL));
    for (int i = 0; i < 10; i++)
        sem_wait(&semaphore);
    say("detached thread posted");
    usleep(50000); /* QEMU cannot always fork while a thread is about to end */
    pid_t child = NEED(fork());
    if (!child) { /* only the forking thread exists in the child, and it can make others */
        many(3, exits, &sum);
        _exit((int)sum);
    }
    reap("child with threads", child);
    child = NEED(fork());
    if (!child) {
        pthread_create(&thread, NULL, waits_forever, NULL);
        exit(8); /* takes the other thread with it */
    }
    reap("exit with a thread left", child);
    child = NEED(fork());
    if (!child) {
        /* In a program of its own: musl 1.2.3 cannot do it in a forked child. */
        execl("/proc/self/exe", "threads", "leave", (char *)NULL);
        _exit(127);
    }
    reap("main thread left first", child);
    return 0;
}
