/* flock, fcntl locks and open-file-description locks. */
#include "guest.h"
#include <sys/file.h>

static int record(int fd, int command, int type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, command, &lock);
}

static int ends_with(int (*body)(int), int fd)
{
    int status;
    pid_t child = NEED(fork());
    if (!child)
        _exit(body(fd));
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static int try_flock(int unused)
{
    (void)unused;
    int fd = open("f", O_RDWR);
    return flock(fd, LOCK_EX | LOCK_NB) ? errno == EWOULDBLOCK ? 2 : 3 : 1;
}

static int try_inherited(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) ? 2 : 1;
}

static int try_record(int fd)
{
    return record(fd, F_SETLK, F_WRLCK, 5, 1) ? errno == EAGAIN || errno == EACCES ? 2 : 3 : 1;
}

static int who_holds(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    if (fcntl(fd, F_GETLK, &lock))
        return 9;
    say("  held: type %s start %ld length %ld by the parent %d", lock.l_type == F_WRLCK ? "write" :
        lock.l_type == F_RDLCK ? "read" : "none", (long)lock.l_start, (long)lock.l_len, lock.l_pid == getppid());
    return 0;
}

int main(void)
{
    scratch();
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0644)), second = NEED(open("f", O_RDWR));
    SHOW(flock(fd, LOCK_EX));
    SHOW(flock(fd, LOCK_EX)); /* again is fine */
    SHOW(flock(second, LOCK_SH | LOCK_NB));
    SHOW(ends_with(try_flock, fd));
    SHOW(ends_with(try_inherited, fd));
    SHOW(flock(fd, LOCK_SH));
    SHOW(flock(second, LOCK_SH | LOCK_NB));
    SHOW(flock(fd, LOCK_UN));
    SHOW(flock(second, LOCK_UN));
    SHOW(ends_with(try_flock, fd));
    SHOW(flock(99, LOCK_EX));

    SHOW(record(fd, F_SETLK, F_WRLCK, 0, 10));
    SHOW(record(second, F_SETLK, F_WRLCK, 0, 10)); /* the process's own lock never conflicts */
    SHOW(ends_with(try_record, fd));
    SHOW(ends_with(who_holds, fd));
    SHOW(record(fd, F_SETLK, F_UNLCK, 5, 2));
    SHOW(ends_with(try_record, fd));
    SHOW(record(fd, F_SETLK, F_RDLCK, 5, 1));
    SHOW(ends_with(try_record, fd));
    SHOW(flock(second, LOCK_EX | LOCK_NB)); /* the two kinds do not see each other */
    SHOW(close(dup(fd))); /* closing any descriptor of the file drops the process's records */
    SHOW(ends_with(try_record, fd));

    SHOW(record(fd, F_OFD_SETLK, F_WRLCK, 0, 100));
    SHOW(record(second, F_OFD_SETLK, F_WRLCK, 50, 1));
    SHOW(record(second, F_OFD_SETLK, F_WRLCK, 100, 1));
    SHOW(record(fd, F_SETLK, 77, 0, 1));
    int ro = NEED(open("f", O_RDONLY));
    SHOW(record(ro, F_SETLK, F_WRLCK, 200, 1));
    record(fd, F_OFD_SETLK, F_UNLCK, 0, 0);

    int p[2], status;
    char byte;
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (!child) {
        int own = open("f", O_RDWR);
        record(own, F_SETLK, F_WRLCK, 0, 1);
        write(p[1], "h", 1);
        nap_ms(40);
        _exit(0); /* its end frees the lock */
    }
    read(p[0], &byte, 1);
    SHOW(record(fd, F_SETLK, F_WRLCK, 0, 1));
    SHOW(record(fd, F_SETLKW, F_WRLCK, 0, 1)); /* sleeps until then */
    waitpid(child, &status, 0);

    record(fd, F_SETLK, F_WRLCK, 10, 1);
    child = NEED(fork());
    if (!child) {
        record(fd, F_SETLK, F_WRLCK, 20, 1);
        write(p[1], "h", 1);
        record(fd, F_SETLKW, F_WRLCK, 10, 1); /* waits for the parent */
        _exit(0);
    }
    read(p[0], &byte, 1);
    nap_ms(100);
    SHOW(record(fd, F_SETLKW, F_WRLCK, 20, 1)); /* would wait for the child */
    record(fd, F_SETLK, F_UNLCK, 0, 0);
    reap("child", child);
    SHOW(lockf(fd, F_TLOCK, 10));
    SHOW(lockf(fd, F_ULOCK, 10));
    return 0;
}
