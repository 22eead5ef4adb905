/* Resource limits: told, inherited, enforced. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/resource.h>

static void set(int what, rlim_t soft)
{
    struct rlimit limit;
    getrlimit(what, &limit);
    limit.rlim_cur = soft;
    NEED(setrlimit(what, &limit));
}

static int in_child(int (*body)(void))
{
    int status;
    pid_t child = NEED(fork());
    if (!child)
        _exit(body());
    waitpid(child, &status, 0);
    return status;
}

static int descriptors(void)
{
    int last = -1, fd;
    set(RLIMIT_NOFILE, 40);
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        last = fd;
    say("last descriptor %d, then %s", last, errno_name(errno));
    SHOW(dup(0));
    SHOW(dup2(0, 40));
    SHOW(dup2(0, 39));
    SHOW(fcntl(0, F_DUPFD, 40));
    int p[2];
    SHOW(pipe(p));
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    SHOW(limit.rlim_cur);
    close(10);
    say("the lowest free one is %d", open("/dev/null", O_RDONLY));
    return 0;
}

static int sizes(void)
{
    signal(SIGXFSZ, SIG_IGN);
    set(RLIMIT_FSIZE, 1000);
    int fd = NEED(open("limited", O_RDWR | O_CREAT, 0600));
    char block[600] = {0};
    SHOW(write(fd, block, 600));
    SHOW(write(fd, block, 600));
    SHOW(write(fd, block, 600));
    SHOW(ftruncate(fd, 2000));
    return 0;
}

static int too_big(void)
{
    signal(SIGXFSZ, SIG_DFL);
    set(RLIMIT_FSIZE, 10);
    int fd = NEED(open("limited", O_RDWR | O_CREAT | O_TRUNC, 0600));
    char block[20] = {0};
    write(fd, block, 10);
    write(fd, block, 20);
    return 1;
}

static int stack(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    return limit.rlim_cur == 4 << 20 ? 7 : 8;
}

static int memory(void)
{
    set(RLIMIT_AS, 1UL << 33);
    TRUE(mmap(NULL, 1UL << 34, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED
         && errno == ENOMEM);
    return 0;
}

static int processor(void)
{
    set(RLIMIT_CPU, 1);
    signal(24 /* SIGXCPU */, SIG_DFL);
    for (volatile int i = 0;; i++)
        ;
}

int main(void)
{
    scratch();
    struct rlimit limit, old;
    SHOW(getrlimit(RLIMIT_NOFILE, &limit));
    TRUE(limit.rlim_cur >= 256 && limit.rlim_cur <= limit.rlim_max);
    TRUE(limit.rlim_cur < 100000000); /* programs allocate a table of this size */
    SHOW(getrlimit(99, &limit));
    set(RLIMIT_CORE, 0);
    SHOW(getrlimit(RLIMIT_CORE, &limit));
    SHOW(limit.rlim_cur);
    limit.rlim_cur = 2;
    limit.rlim_max = 1;
    SHOW(setrlimit(RLIMIT_CORE, &limit));
    outcome("descriptors", in_child(descriptors));
    outcome("file size", in_child(sizes));
    outcome("file too big", in_child(too_big));
    outcome("address space", in_child(memory));
    int status = in_child(processor);
    say("processor time: %s", WIFSIGNALED(status) && WTERMSIG(status) == 24 ? "SIGXCPU" : "?");
    set(RLIMIT_STACK, 4 << 20);
    outcome("inherited", in_child(stack));
    limit.rlim_cur = 300;
    limit.rlim_max = 400;
    SHOW(prlimit(0, RLIMIT_NOFILE, &limit, &old));
    SHOW(prlimit(getpid(), RLIMIT_NOFILE, NULL, &limit));
    say("%lu %lu", (unsigned long)limit.rlim_cur, (unsigned long)limit.rlim_max);
    SHOW(sysconf(_SC_OPEN_MAX));
    SHOW(prlimit(99999999, RLIMIT_NOFILE, NULL, &limit));
    return 0;
}
