/* Signals and threads: who gets what. */
#include "guest.h"
#include <pthread.h>
#include <semaphore.h>

static __thread int mine;
static pthread_t main_thread;
static volatile int by_main, by_other, stop;
static sem_t ready;

static void handler(int number)
{
    (void)number;
    mine++;
    if (pthread_equal(pthread_self(), main_thread))
        by_main++;
    else
        by_other++;
}

static void *counts(void *unused)
{
    (void)unused;
    sem_post(&ready);
    while (!stop)
        nap_ms(1);
    return (void *)(long)mine;
}

static void *unblocked(void *unused)
{
    sigset_t set;
    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    sem_post(&ready);
    while (!stop)
        nap_ms(1);
    return (void *)(long)mine;
}

static void *mask_of_new(void *unused)
{
    sigset_t set;
    (void)unused;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    return (void *)(long)(sigismember(&set, SIGUSR1) * 2 + sigismember(&set, SIGUSR2));
}

static void *waiter(void *unused)
{
    sigset_t set;
    int number = 0;
    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sem_post(&ready);
    sigwait(&set, &number);
    return (void *)(long)number;
}

static void *hammer(void *target)
{
    for (int i = 0; i < 500; i++)
        pthread_kill(*(pthread_t *)target, SIGUSR1);
    return NULL;
}

static void *blocks_in_read(void *pipe_end)
{
    char byte;
    sem_post(&ready);
    ssize_t n = read(*(int *)pipe_end, &byte, 1);
    stop = 1;
    return (void *)(long)(n < 0 ? errno : 0);
}

int main(void)
{
    pthread_t thread, helpers[4];
    void *result;
    main_thread = pthread_self();
    sem_init(&ready, 0, 0);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);

    pthread_create(&thread, NULL, counts, NULL);
    sem_wait(&ready);
    CODE(pthread_kill(thread, SIGUSR1));
    while (!by_other)
        nap_ms(1);
    say("main %d other %d", by_main, by_other);
    CODE(pthread_kill(main_thread, SIGUSR1));
    say("main %d other %d", by_main, by_other);
    CODE(pthread_kill(thread, 0));
    stop = 1;
    pthread_join(thread, &result);
    say("the thread counted %ld", (long)result);
    SHOW(syscall(SYS_tgkill, getpid(), 99999999, SIGUSR1));
    SHOW(syscall(SYS_tgkill, -1, 1, SIGUSR1));

    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    stop = by_main = by_other = 0;
    pthread_create(&thread, NULL, unblocked, NULL);
    sem_wait(&ready);
    kill(getpid(), SIGUSR2); /* the process's signal goes to the thread that takes it */
    while (!by_other)
        nap_ms(1);
    stop = 1;
    pthread_join(thread, &result);
    say("taken by the unblocked thread: %ld, by main %d", (long)result, by_main);
    pthread_create(&thread, NULL, mask_of_new, NULL);
    pthread_join(thread, &result);
    say("a new thread's mask: %ld", (long)result);
    pthread_kill(pthread_self(), SIGUSR2);
    sigset_t pending;
    sigpending(&pending);
    SHOW(sigismember(&pending, SIGUSR2));
    pthread_create(&thread, NULL, mask_of_new, NULL); /* it does not inherit what is pending */
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    say("main took it: %d", by_main);

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    pthread_create(&thread, NULL, waiter, NULL);
    sem_wait(&ready);
    kill(getpid(), SIGTERM);
    pthread_join(thread, &result);
    say("sigwait in a thread: %s", signal_name((int)(long)result));

    int p[2];
    NEED(pipe(p));
    stop = 0;
    pthread_create(&thread, NULL, blocks_in_read, &p[0]);
    sem_wait(&ready);
    while (!stop) { /* a signal may come before the read */
        pthread_kill(thread, SIGUSR1);
        nap_ms(5);
    }
    pthread_join(thread, &result);
    say("read in a thread: %s", (long)result == EINTR ? "EINTR" : "finished");

    by_main = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&helpers[i], NULL, hammer, &main_thread);
    volatile double work = 1;
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 1000000; k++)
            work *= 1.0000001;
        pthread_join(helpers[i], NULL);
    }
    TRUE(by_main > 0 && by_main <= 2000);
    TRUE(work > 1.49 && work < 1.50);

    pid_t child = NEED(fork());
    if (!child) {
        stop = 0;
        pthread_create(&thread, NULL, counts, NULL);
        sem_wait(&ready);
        pthread_kill(thread, SIGKILL); /* kills all of the process */
        for (;;)
            pause();
    }
    reap("killed through a thread", child);
    return 0;
}
