/* vfork, posix_spawn, system, popen. */
#include "guest.h"
#include <spawn.h>

extern char **environ;

static void vforks(void)
{
    volatile int shared = 1;
    pid_t child = vfork();
    if (!child) {
        shared = 2; /* the memory is the parent's */
        _exit(9);
    }
    say("shared is %d", shared);
    reap("vfork child", child);
    child = vfork();
    if (!child) {
        execl("/proc/self/exe", "spawn", "say", "after vfork", (char *)NULL);
        _exit(127);
    }
    reap("vfork exec", child);
    volatile int error = 0;
    child = vfork();
    if (!child) {
        execl("/missing/program", "x", (char *)NULL);
        error = errno;
        _exit(127);
    }
    reap("vfork failed exec", child);
    say("and its errno is %s", errno_name(error));
    for (int i = 0; i < 50; i++) {
        child = vfork();
        if (!child)
            _exit(i);
        int status;
        if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != i)
            say("vfork %d went wrong", i);
    }
}

static void spawns(void)
{
    pid_t child;
    char *say_it[] = {"spawn", "say", "spawned", NULL};
    int code = posix_spawn(&child, "/proc/self/exe", NULL, NULL, say_it, environ);
    reap("spawned", child);
    SHOW(code);
    char *no[] = {"x", NULL};
    CODE(posix_spawn(&child, "/missing/program", NULL, NULL, no, environ));
    CODE(posix_spawnp(&child, "no-such-program-anywhere", NULL, NULL, no, environ));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "output", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addclose(&actions, 0);
    char *both[] = {"spawn", "both", NULL};
    CODE(posix_spawn(&child, "/proc/self/exe", &actions, NULL, both, environ));
    reap("redirected", child);
    cat("output");
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    posix_spawnattr_setsigdefault(&attributes, &set);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    signal(SIGUSR2, SIG_IGN);
    char *state[] = {"spawn", "state", NULL};
    code = posix_spawn(&child, "/proc/self/exe", NULL, &attributes, state, environ);
    reap("with attributes", child);
    SHOW(code);
    signal(SIGUSR2, SIG_DFL);
}

static void shells(void)
{
    if (access("/bin/sh", X_OK)) {
        say("NEED /bin/sh");
        return;
    }
    int status = system("echo from the shell; exit 6");
    outcome("system", status);
    status = system("kill -9 $$");
    outcome("system", status);
    char text[64] = "";
    FILE *stream = popen("echo one; echo two; exit 2", "r");
    size_t n = fread(text, 1, sizeof text - 1, stream);
    say("popen read %zu: \"%s\"", n, text);
    outcome("popen", pclose(stream));
    stream = popen("cat; echo done", "w");
    fputs("written to cat\n", stream);
    outcome("popen", pclose(stream));
}

int main(int count, char **arguments)
{
    if (count > 2 && !strcmp(arguments[1], "say")) {
        say("%s: %s", arguments[0], arguments[2]);
        return 11;
    }
    if (count > 1 && !strcmp(arguments[1], "both")) {
        say("to stdout");
        fprintf(stderr, "to stderr\n");
        SHOW(fcntl(0, F_GETFD));
        return 12;
    }
    if (count > 1 && !strcmp(arguments[1], "state")) {
        sigset_t mask;
        sigprocmask(SIG_BLOCK, NULL, &mask);
        struct sigaction action;
        sigaction(SIGUSR2, NULL, &action);
        say("USR1 blocked %d, USR2 default %d, own group %d", sigismember(&mask, SIGUSR1),
            action.sa_handler == SIG_DFL, getpgrp() == getpid());
        return 13;
    }
    scratch();
    vforks();
    spawns();
    shells();
    return 0;
}
