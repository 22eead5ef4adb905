/* The *at family relative to a directory descriptor, openat2's resolve flags, O_TMPFILE. */
#include "guest.h"
#include <linux/openat2.h>

static long openat2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .resolve = resolve};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void relative(void)
{
    char text[64];
    SHOW(mkdirat(AT_FDCWD, "base", 0755));
    int dir = NEED(open("base", O_PATH | O_DIRECTORY));
    SHOW(mkdirat(dir, "sub", 0755));
    int fd = OK(openat(dir, "sub/file", O_RDWR | O_CREAT, 0644));
    write(fd, "text", 4);
    SHOW(symlinkat("sub/file", dir, "link"));
    memset(text, 0, sizeof text);
    SHOW(readlinkat(dir, "link", text, sizeof text));
    say("%s", text);
    SHOW(linkat(dir, "sub/file", dir, "hard", 0));
    SHOW(renameat(dir, "hard", AT_FDCWD, "out"));
    cat("out");
    SHOW(faccessat(dir, "hard", F_OK, 0));
    SHOW(fchmodat(dir, "sub/file", 0600, 0));
    struct stat s;
    SHOW(fstatat(dir, "link", &s, AT_SYMLINK_NOFOLLOW));
    TRUE(S_ISLNK(s.st_mode));
    SHOW(mkfifoat(dir, "fifo", 0600));
    SHOW(unlinkat(dir, "sub", 0));
    SHOW(unlinkat(dir, "sub", AT_REMOVEDIR));
    SHOW(unlinkat(dir, "fifo", AT_REMOVEDIR));
    SHOW(unlinkat(dir, "fifo", 0));
    SHOW(unlinkat(dir, "sub/file", 0));
    SHOW(unlinkat(dir, "sub", AT_REMOVEDIR));
    SHOW(unlinkat(dir, "sub", 0x4000));
    SHOW(openat(fd, "x", O_RDONLY));
    SHOW(openat(-1, "x", O_RDONLY));
    SHOW(openat(77, "x", O_RDONLY));
    OK(openat(-1, "/", O_RDONLY));
    SHOW(read(dir, text, 1));
    SHOW(rename("base", "renamed"));
    OK(openat(dir, "late", O_CREAT | O_WRONLY, 0600));
    SHOW(access("renamed/late", F_OK));
    OK(openat(dir, "../out", O_RDONLY));
    close(fd);
    close(dir);
}

static void resolve_flags(void)
{
    mkdir("jail", 0755);
    put("jail/in", "inside");
    put("outside", "outside");
    symlink("../outside", "jail/escape");
    symlink("/in", "jail/absolute");
    symlink("in", "jail/fine");
    int dir = NEED(open("jail", O_RDONLY | O_DIRECTORY));
    OK(openat2(dir, "in", O_RDONLY, RESOLVE_BENEATH));
    OK(openat2(dir, "fine", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(dir, "escape", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(dir, "../outside", O_RDONLY, RESOLVE_BENEATH));
    SHOW(openat2(dir, "/in", O_RDONLY, RESOLVE_BENEATH));
    OK(openat2(dir, "absolute", O_RDONLY, RESOLVE_IN_ROOT));
    SHOW(openat2(dir, "escape", O_RDONLY, RESOLVE_IN_ROOT));
    SHOW(openat2(dir, "fine", O_RDONLY, RESOLVE_NO_SYMLINKS));
    SHOW(openat2(dir, "in", O_RDONLY, 1ULL << 40));
    SHOW(syscall(SYS_openat2, dir, "in", NULL, 24));
    struct open_how how = {0};
    SHOW(syscall(SYS_openat2, dir, "in", &how, 3));
}

static void temporary(void)
{
    struct stat s;
    int fd = OK(open(".", O_TMPFILE | O_RDWR, 0640));
    if (fd < 0)
        return;
    fstat(fd, &s);
    say("links %d mode %o", (int)s.st_nlink, (unsigned)s.st_mode & 0777);
    write(fd, "kept", 4);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    cat("named");
    fstat(fd, &s);
    say("links %d", (int)s.st_nlink);
    char name[] = "mk-XXXXXX";
    OK(mkstemp(name));
    SHOW(unlink(name));
}

int main(void)
{
    scratch();
    relative();
    resolve_flags();
    temporary();
    return 0;
}
