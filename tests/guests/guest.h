/* What every guest test program shares: it writes a transcript that is the same on every Linux.
 *
 * SHOW(call) prints the call's own text and its result, or the errno's name when it failed.
 * OK(call) prints only that it worked, for results that differ from run to run (descriptors, pids).
 * Programs are built against glibc and musl, statically and dynamically: nothing libc-specific here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *errno_name(int number)
{
    static const struct { int number; const char *name; } names[] = {
#define N(e) {e, #e}
        N(EPERM), N(ENOENT), N(ESRCH), N(EINTR), N(EIO), N(ENXIO), N(E2BIG), N(ENOEXEC), N(EBADF),
        N(ECHILD), N(EAGAIN), N(ENOMEM), N(EACCES), N(EFAULT), N(EBUSY), N(EEXIST), N(EXDEV),
        N(ENODEV), N(ENOTDIR), N(EISDIR), N(EINVAL), N(ENFILE), N(EMFILE), N(ENOTTY), N(ETXTBSY),
        N(EFBIG), N(ENOSPC), N(ESPIPE), N(EROFS), N(EMLINK), N(EPIPE), N(EDOM), N(ERANGE),
        N(EDEADLK), N(ENAMETOOLONG), N(ENOSYS), N(ENOTEMPTY), N(ELOOP), N(ENODATA), N(ETIME),
        N(EOVERFLOW), N(EOPNOTSUPP), N(EADDRINUSE), N(EADDRNOTAVAIL), N(ECONNREFUSED), N(EISCONN),
        N(ENOTCONN), N(EMSGSIZE), N(ENOTSOCK), N(EPROTOTYPE), N(ENOPROTOOPT), N(EAFNOSUPPORT),
        N(ECONNRESET), N(ETIMEDOUT), N(EALREADY), N(EINPROGRESS), N(EDESTADDRREQ), N(EOWNERDEAD),
        N(ENOTRECOVERABLE), N(ECANCELED), N(EPROTONOSUPPORT), N(ENOMSG), N(EIDRM),
#undef N
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number)
            return names[i].name;
    return "E?";
}

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout); /* nothing buffered is carried into a fork */
}

static inline long show(const char *text, long result, int error)
{
    if (result == -1 && error)
        say("%s: %s", text, errno_name(error));
    else
        say("%s: %ld", text, result);
    return result;
}

static inline long okay(const char *text, long result, int error)
{
    if (result == -1)
        say("%s: %s", text, errno_name(error));
    else
        say("%s: ok", text);
    return result;
}

#define SHOW(call) ({ errno = 0; long r_ = (long)(call); show(#call, r_, errno); })
#define OK(call) ({ errno = 0; long r_ = (long)(call); okay(#call, r_, errno); })
/* For calls that give an errno number instead of setting errno (the pthread_ family). */
#define CODE(call) ({ int c_ = (call); say("%s: %s", #call, c_ ? errno_name(c_) : "0"); c_; })
#define TRUE(condition) say("%s: %s", #condition, (condition) ? "yes" : "NO")
#define UNUSED __attribute__((unused))

/* A thing the test needs and cannot do without. */
#define NEED(call) ({ \
    long n_ = (long)(call); \
    if (n_ == -1) { say("NEED %s: %s", #call, errno_name(errno)); exit(99); } \
    n_; })

/* Go to a new empty directory. */
static inline void UNUSED scratch(void)
{
    char path[] = "/tmp/guest-XXXXXX";
    if (!mkdtemp(path)) {
        say("NEED mkdtemp: %s", errno_name(errno));
        exit(99);
    }
    NEED(chdir(path));
}

/* Make a file with this text. */
static inline void UNUSED put(const char *path, const char *text)
{
    int fd = NEED(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    NEED(write(fd, text, strlen(text)));
    close(fd);
}

/* Print the file's text, up to 4095 bytes. */
static inline void UNUSED cat(const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        say("cat %s: %s", path, errno_name(errno));
        return;
    }
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size < 0 ? 0 : size] = 0;
    say("cat %s: \"%s\"", path, text);
}

static inline const char *UNUSED signal_name(int number)
{
    switch (number) {
    case SIGHUP: return "SIGHUP";
    case SIGINT: return "SIGINT";
    case SIGQUIT: return "SIGQUIT";
    case SIGILL: return "SIGILL";
    case SIGTRAP: return "SIGTRAP";
    case SIGABRT: return "SIGABRT";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGKILL: return "SIGKILL";
    case SIGUSR1: return "SIGUSR1";
    case SIGSEGV: return "SIGSEGV";
    case SIGUSR2: return "SIGUSR2";
    case SIGPIPE: return "SIGPIPE";
    case SIGALRM: return "SIGALRM";
    case SIGTERM: return "SIGTERM";
    case SIGCHLD: return "SIGCHLD";
    case SIGCONT: return "SIGCONT";
    case SIGSTOP: return "SIGSTOP";
    case SIGTSTP: return "SIGTSTP";
    case SIGTTIN: return "SIGTTIN";
    case SIGTTOU: return "SIGTTOU";
    case SIGURG: return "SIGURG";
    case SIGXFSZ: return "SIGXFSZ";
    case SIGSYS: return "SIGSYS";
    case SIGWINCH: return "SIGWINCH";
    default: return number >= SIGRTMIN && number <= SIGRTMAX ? "SIGRT" : "SIG?";
    }
}

/* Print how a child ended. */
static inline void UNUSED outcome(const char *who, int status)
{
    if (WIFEXITED(status))
        say("%s exited %d", who, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        say("%s killed by %s", who, signal_name(WTERMSIG(status)));
    else if (WIFSTOPPED(status))
        say("%s stopped by %s", who, signal_name(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        say("%s continued", who);
    else
        say("%s: status %x", who, (unsigned)status);
}

/* Wait for the child and print how it ended. */
static inline void UNUSED reap(const char *who, pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            say("%s: waitpid: %s", who, errno_name(errno));
            return;
        }
    }
    outcome(who, status);
}

static inline void UNUSED nap_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

static inline int64_t UNUSED now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}
