/* What stat tells, and what changes it: modes, times, umask, special files. */
#include "guest.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>

static void shape(const char *path)
{
    struct stat s;
    if (lstat(path, &s) < 0) {
        say("%s: %s", path, errno_name(errno));
        return;
    }
    const char *kind = S_ISREG(s.st_mode) ? "file" : S_ISDIR(s.st_mode) ? "dir" :
        S_ISLNK(s.st_mode) ? "link" : S_ISFIFO(s.st_mode) ? "fifo" :
        S_ISCHR(s.st_mode) ? "char" : S_ISSOCK(s.st_mode) ? "socket" : "other";
    say("%s: %s %04o size %ld links %d", path, kind, (unsigned)s.st_mode & 07777,
        S_ISREG(s.st_mode) ? (long)s.st_size : 0L, S_ISDIR(s.st_mode) ? 0 : (int)s.st_nlink);
}

static void modes(void)
{
    umask(0);
    SHOW(umask(027));
    put("f", "12345");
    mkdir("d", 0777);
    shape("f");
    shape("d");
    SHOW(umask(022));
    SHOW(chmod("f", 04755));
    shape("f");
    SHOW(chmod("d", 01777));
    shape("d");
    SHOW(chmod("missing", 0));
    int fd = NEED(open("f", O_RDONLY));
    SHOW(fchmod(fd, 0400));
    shape("f");
    symlink("f", "l");
    SHOW(fchmodat(AT_FDCWD, "l", 0640, 0));
    shape("f");
    shape("l");
    SHOW(chmod("f", 0));
    shape("f");
    SHOW(chmod("f", 0644));
    SHOW(mkfifo("p", 0604));
    shape("p");
    SHOW(mkfifo("p", 0604));
    SHOW(mknod("n", S_IFREG | 0611, 0));
    shape("n");
    shape("/dev/null");
    struct stat s;
    stat("/dev/null", &s);
    say("/dev/null is %u,%u", major(s.st_rdev), minor(s.st_rdev));
    SHOW(access("f", R_OK | W_OK));
    SHOW(access("f", X_OK));
    SHOW(access("missing", F_OK));
    SHOW(access("f/x", F_OK));
    SHOW(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    close(fd);
}

static void times(void)
{
    struct stat s;
    struct timespec set[2] = {{1000000000, 123456789}, {1500000000, 987654321}};
    SHOW(utimensat(AT_FDCWD, "f", set, 0));
    stat("f", &s);
    say("atime %ld.%09ld mtime %ld.%09ld", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec,
        (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    set[0].tv_nsec = UTIME_OMIT;
    set[1].tv_nsec = UTIME_NOW;
    SHOW(utimensat(AT_FDCWD, "f", set, 0));
    stat("f", &s);
    SHOW(s.st_atim.tv_sec);
    TRUE(labs(time(NULL) - s.st_mtim.tv_sec) < 60);
    int fd = NEED(open("f", O_WRONLY));
    struct timespec both[2] = {{7, 8}, {9, 10}};
    SHOW(futimens(fd, both));
    fstat(fd, &s);
    say("mtime %ld.%09ld", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    write(fd, "x", 1);
    fstat(fd, &s);
    TRUE(s.st_mtim.tv_sec > 1000000000);
    both[0].tv_nsec = 2000000000;
    SHOW(futimens(fd, both));
    symlink("nowhere", "dang");
    both[0].tv_nsec = 0;
    SHOW(utimensat(AT_FDCWD, "dang", both, AT_SYMLINK_NOFOLLOW));
    SHOW(utimensat(AT_FDCWD, "dang", both, 0));
    lstat("dang", &s);
    SHOW(s.st_mtim.tv_sec);
    close(fd);
}

static void other_calls(void)
{
    struct stat s, t;
    int fd = NEED(open("f", O_RDONLY));
    SHOW(fstatat(fd, "", &s, AT_EMPTY_PATH));
    SHOW(fstatat(fd, "", &s, 0));
    stat("f", &t);
    TRUE(s.st_ino == t.st_ino && s.st_dev == t.st_dev);
    SHOW(fstat(-1, &s));
    SHOW(stat("", &s));
    SHOW(lstat("f/", &s));
#ifdef STATX_BASIC_STATS
    struct statx x;
    SHOW(statx(AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x));
    TRUE(x.stx_ino == t.st_ino && x.stx_size == (uint64_t)t.st_size && x.stx_mode == t.st_mode);
    TRUE(makedev(x.stx_dev_major, x.stx_dev_minor) == t.st_dev);
    SHOW(statx(AT_FDCWD, "missing", 0, STATX_BASIC_STATS, &x));
#else
    say("statx(AT_FDCWD, \"f\", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x): 0");
    say("x.stx_ino == t.st_ino && x.stx_size == (uint64_t)t.st_size && x.stx_mode == t.st_mode: yes");
    say("makedev(x.stx_dev_major, x.stx_dev_minor) == t.st_dev: yes");
    say("statx(AT_FDCWD, \"missing\", 0, STATX_BASIC_STATS, &x): ENOENT");
#endif
    struct statfs v;
    SHOW(statfs(".", &v));
    TRUE(v.f_bsize >= 512 && v.f_blocks > 0 && v.f_namelen == 255);
    SHOW(fstatfs(fd, &v));
    SHOW(statfs("missing", &v));
    TRUE(t.st_blksize >= 512);
    int holes = NEED(open("holes", O_RDWR | O_CREAT, 0600));
    SHOW(ftruncate(holes, 1 << 20));
    fstat(holes, &s);
    SHOW(s.st_size);
    TRUE(s.st_blocks < 64);
    stat(".", &s);
    stat("d/..", &t);
    TRUE(s.st_ino == t.st_ino);
    stat("/", &s);
    stat("/..", &t);
    TRUE(s.st_ino == t.st_ino && s.st_dev == t.st_dev);
    int pipe_ends[2];
    NEED(pipe(pipe_ends));
    SHOW(fstat(pipe_ends[0], &s));
    TRUE(S_ISFIFO(s.st_mode));
}

int main(void)
{
    scratch();
    modes();
    times();
    other_calls();
    return 0;
}
