/* Clocks, sleeps and timers. Times are only compared, never printed. */
#include "guest.h"
#include <pthread.h>
#include <sys/time.h>
#include <sys/times.h>

static volatile int ticks, last_value, most_overruns;

static void tick(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    ticks++;
    if (info->si_code == SI_TIMER) {
        last_value = info->si_value.sival_int;
        if (info->si_overrun > most_overruns)
            most_overruns = info->si_overrun;
    }
}

static void clocks(void)
{
    struct timespec a, b;
    static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE,
        CLOCK_BOOTTIME};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (clock_gettime(ids[i], &a) || clock_gettime(ids[i], &b))
            say("clock %d: %s", (int)ids[i], errno_name(errno));
        else if (b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec))
            say("clock %d went back", (int)ids[i]);
    }
    SHOW(clock_gettime(99, &a));
    SHOW(clock_getres(CLOCK_MONOTONIC, &a));
    TRUE(a.tv_sec == 0 && a.tv_nsec >= 1);
    struct timeval t;
    SHOW(gettimeofday(&t, NULL));
    TRUE(labs((long)t.tv_sec - time(NULL)) <= 1);
    struct tms used;
    TRUE(times(&used) != -1);
    TRUE(clock() >= 0);
    struct timespec direct;
    SHOW(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &direct)); /* past the vDSO */
    clock_gettime(CLOCK_MONOTONIC, &a);
    TRUE(a.tv_sec - direct.tv_sec <= 1);
}

static void sleeps(void)
{
    int64_t before = now_ms();
    nap_ms(30);
    TRUE(now_ms() - before >= 29);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 30000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    before = now_ms();
    CODE(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    TRUE(now_ms() - before >= 28);
    CODE(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)); /* past: at once */
    clock_gettime(CLOCK_REALTIME, &until);
    CODE(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL));
    struct timespec bad = {0, 1000000000};
    SHOW(nanosleep(&bad, NULL));
    bad.tv_sec = -1;
    bad.tv_nsec = 0;
    SHOW(nanosleep(&bad, NULL));
    before = now_ms();
    usleep(2000);
    TRUE(now_ms() - before >= 1);
}

static void wait_ticks(int wanted)
{
    for (int64_t until = now_ms() + 10000; ticks < wanted && now_ms() < until;)
        nap_ms(1);
}

static void intervals(void)
{
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGVTALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    SHOW(alarm(100));
    TRUE(alarm(0) >= 99);
    struct itimerval every = {{0, 5000}, {0, 5000}}, old;
    SHOW(setitimer(ITIMER_REAL, &every, NULL));
    wait_ticks(5);
    TRUE(ticks >= 5);
    SHOW(getitimer(ITIMER_REAL, &old));
    SHOW(old.it_interval.tv_usec);
    struct itimerval none = {{0, 0}, {0, 0}};
    SHOW(setitimer(ITIMER_REAL, &none, &old));
    SHOW(setitimer(99, &none, NULL));
    ticks = 0;
    struct itimerval virtual_time = {{0, 0}, {0, 20000}};
    SHOW(setitimer(ITIMER_VIRTUAL, &virtual_time, NULL));
    volatile double x = 1;
    for (int64_t until = now_ms() + 10000; !ticks && now_ms() < until;)
        for (int i = 0; i < 10000; i++)
            x *= 1.0000001;
    SHOW(ticks);
    pid_t child = NEED(fork());
    if (!child) {
        signal(SIGALRM, SIG_DFL);
        alarm(1);
        for (;;)
            pause();
    }
    reap("alarm", child);
}

static void posix_timers(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    timer_t timer;
    struct itimerspec every = {{0, 3000000}, {0, 3000000}}, now;
    ticks = 0;
    SHOW(timer_create(CLOCK_MONOTONIC, &event, &timer));
    SHOW(timer_settime(timer, 0, &every, NULL));
    wait_ticks(5);
    TRUE(ticks >= 5);
    SHOW(last_value);
    SHOW(timer_gettime(timer, &now));
    SHOW(now.it_interval.tv_nsec);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    nap_ms(50);
    sigprocmask(SIG_SETMASK, &old, NULL);
    TRUE(most_overruns > 5);
    TRUE(timer_getoverrun(timer) >= 0);
    SHOW(timer_delete(timer));
    SHOW(timer_create(99, &event, &timer));
    event.sigev_notify = SIGEV_NONE;
    SHOW(timer_create(CLOCK_REALTIME, &event, &timer));
    struct itimerspec once = {{0, 0}, {1000, 0}};
    SHOW(timer_settime(timer, 0, &once, NULL));
    SHOW(timer_gettime(timer, &now));
    TRUE(now.it_value.tv_sec >= 998);
    SHOW(timer_delete(timer));
}

int main(void)
{
    clocks();
    sleeps();
    intervals();
    posix_timers();
    return 0;
}
