/* /dev: the nodes every program expects. */
#include "guest.h"
#include <sys/ioctl.h>
#include <sys/mman.h>

static int all(const unsigned char *bytes, size_t size, int value)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

static int same(const char *path, int fd)
{
    struct stat named, opened;
    return !stat(path, &named) && !fstat(fd, &opened) && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino && named.st_rdev == opened.st_rdev;
}

int main(void)
{
    unsigned char bytes[256];
    scratch();
    int fd = OK(open("/dev/null", O_RDWR));
    SHOW(write(fd, "gone", 4));
    SHOW(read(fd, bytes, 10));
    SHOW(lseek(fd, 100, SEEK_SET));
    SHOW(ftruncate(fd, 0));
    SHOW(isatty(fd));
    TRUE(same("/dev/null", fd)); /* install(1) and cp(1) compare */
    fd = OK(open("/dev/zero", O_RDWR));
    memset(bytes, 1, sizeof bytes);
    SHOW(read(fd, bytes, 256));
    TRUE(all(bytes, 256, 0));
    SHOW(write(fd, "x", 1));
    unsigned char *zeros = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    TRUE(zeros != MAP_FAILED && all(zeros, 4096, 0));
    fd = OK(open("/dev/full", O_RDWR));
    SHOW(write(fd, "x", 1));
    SHOW(read(fd, bytes, 4));
    fd = OK(open("/dev/urandom", O_RDONLY));
    SHOW(read(fd, bytes, 256));
    TRUE(!all(bytes, 256, bytes[0]));
    fd = OK(open("/dev/random", O_RDONLY));
    SHOW(read(fd, bytes, 16));
    SHOW(syscall(SYS_getrandom, bytes, 64, 0));
    SHOW(syscall(SYS_getrandom, bytes, 64, 0x100));
    SHOW(open("/dev/null/x", O_RDONLY));
    SHOW(open("/dev/missing", O_RDONLY));
    OK(open("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666)); /* what a shell's > does */

    fd = OK(shm_open("/guest-shm", O_RDWR | O_CREAT | O_EXCL, 0600));
    SHOW(ftruncate(fd, 4096));
    char *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t child = NEED(fork());
    if (!child) {
        int again = shm_open("/guest-shm", O_RDWR, 0);
        char *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        strcpy(b, "shared");
        _exit(0);
    }
    reap("child", child);
    say("%s", a);
    SHOW(access("/dev/shm/guest-shm", F_OK));
    SHOW(shm_unlink("/guest-shm"));
    SHOW(shm_unlink("/guest-shm"));
    SHOW(access("/dev/shm/guest-shm", F_OK));

    int p[2];
    NEED(pipe(p));
    write(p[1], "to stdin\n", 9);
    close(p[1]);
    dup2(p[0], 0);
    cat("/dev/stdin");
    put("f", "by number");
    int file = NEED(open("f", O_RDONLY));
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", file);
    cat(path);
    fd = OK(open("/dev/stdout", O_WRONLY));
    SHOW(write(fd, "to stdout\n", 10));
    struct stat s;
    static const char *const nodes[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        if (stat(nodes[i], &s))
            say("%s: %s", nodes[i], errno_name(errno));
        else
            say("%s: char %d mode %o", nodes[i], S_ISCHR(s.st_mode), (unsigned)s.st_mode & 0777);
    }
    SHOW(access("/dev/pts", F_OK));
    SHOW(access("/dev/ptmx", R_OK | W_OK));
    SHOW(stat("/dev/shm", &s));
    say("shm mode %o", (unsigned)s.st_mode & 07777);
    return 0;
}
