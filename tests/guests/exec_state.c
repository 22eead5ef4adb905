/* What survives execve and what does not: signals, ids, alarms, masks, threads, memory. */
#include "guest.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void handler(int number) { (void)number; }

static const char *disposition(int number)
{
    struct sigaction action;
    sigaction(number, NULL, &action);
    return action.sa_handler == SIG_DFL ? "default" : action.sa_handler == SIG_IGN ? "ignored" : "caught";
}

static void *sleeper(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

static void *executor(void *pid_text)
{
    execl("/proc/self/exe", "exec_state", "thread", (char *)pid_text, (char *)NULL);
    return NULL;
}

static int after(char **arguments)
{
    say("pid kept: %s", atoi(arguments[2]) == getpid() ? "yes" : "NO");
    say("USR1 %s, USR2 %s, CHLD %s", disposition(SIGUSR1), disposition(SIGUSR2), disposition(SIGCHLD));
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    say("blocked: TERM %d HUP %d INT %d", sigismember(&set, SIGTERM), sigismember(&set, SIGHUP),
        sigismember(&set, SIGINT));
    sigpending(&set);
    say("pending: TERM %d HUP %d", sigismember(&set, SIGTERM), sigismember(&set, SIGHUP));
    say("umask %o nice %d", (unsigned)umask(0), getpriority(PRIO_PROCESS, 0));
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    say("core limit %lu", (unsigned long)limit.rlim_cur);
    unsigned left = alarm(0);
    say("alarm kept: %s", left > 50 && left <= 100 ? "yes" : "NO");
    stack_t stack;
    sigaltstack(NULL, &stack);
    say("alternate stack off: %d", stack.ss_flags == SS_DISABLE);
    char name[17] = "";
    prctl(PR_GET_NAME, name);
    say("name %.9s", name);
    char path[PATH_MAX] = "";
    say("directory kept: %s", getcwd(path, sizeof path) && strstr(path, "/guest-") ? "yes" : "NO");
    return 0;
}

int main(int count, char **arguments)
{
    if (count > 2 && !strcmp(arguments[1], "after"))
        return after(arguments);
    if (count > 2 && !strcmp(arguments[1], "thread")) {
        say("exec from a thread: pid kept %d, tid is pid %d", atoi(arguments[2]) == getpid(),
            syscall(SYS_gettid) == getpid());
        char text[4096] = "";
        int fd = open("/proc/self/status", O_RDONLY);
        read(fd, text, sizeof text - 1);
        char *threads = strstr(text, "Threads:");
        say("threads %d", threads ? atoi(threads + 8) : -1);
        return 41;
    }
    scratch();
    char pid[16];
    pid_t child = NEED(fork());
    if (!child) {
        snprintf(pid, sizeof pid, "%d", getpid());
        for (int i = 0; i < 3; i++) {
            pthread_t thread;
            pthread_create(&thread, NULL, sleeper, NULL);
        }
        pthread_t thread;
        pthread_create(&thread, NULL, executor, pid);
        pthread_join(thread, NULL);
        _exit(1);
    }
    reap("thread exec", child);
    child = NEED(fork());
    if (!child) {
        snprintf(pid, sizeof pid, "%d", getpid());
        signal(SIGUSR1, handler);
        signal(SIGUSR2, SIG_IGN);
        signal(SIGCHLD, handler);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTERM);
        umask(031);
        struct rlimit limit = {0, 0};
        setrlimit(RLIMIT_CORE, &limit);
        setpriority(PRIO_PROCESS, 0, 5);
        alarm(100);
        static char space[65536];
        stack_t stack = {.ss_sp = space, .ss_size = sizeof space};
        sigaltstack(&stack, NULL);
        prctl(PR_SET_NAME, "renamed");
        execl("/proc/self/exe", "exec_state", "after", pid, (char *)NULL);
        _exit(1);
    }
    reap("state", child);
    return 0;
}
