/* Hard links, symbolic links, renames, files without a name. */
#include "guest.h"

static void hard(void)
{
    struct stat a, b;
    put("a", "one");
    SHOW(link("a", "b"));
    SHOW(link("a", "b"));
    SHOW(link("missing", "c"));
    SHOW(link(".", "c"));
    stat("a", &a);
    stat("b", &b);
    TRUE(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    SHOW(a.st_nlink);
    put("b", "two");
    cat("a");
    SHOW(unlink("a"));
    SHOW(stat("b", &b));
    SHOW(b.st_nlink);
    cat("b");
}

static void symbolic(void)
{
    char text[64] = "";
    struct stat s;
    SHOW(symlink("b", "s"));
    SHOW(symlink("b", "s"));
    SHOW(symlink("", "empty"));
    SHOW(readlink("s", text, sizeof text));
    say("s -> %s", text);
    memset(text, 0, sizeof text);
    SHOW(syscall(SYS_readlinkat, AT_FDCWD, "s", text, 0)); /* musl answers readlink itself */
    SHOW(readlink("b", text, sizeof text));
    SHOW(readlink("missing", text, sizeof text));
    SHOW(symlink("a/long/target/that/is/cut", "long"));
    SHOW(readlink("long", text, 6));
    say("cut: \"%.6s\"", text);
    cat("s");
    SHOW(lstat("s", &s));
    TRUE(S_ISLNK(s.st_mode));
    SHOW(s.st_size);
    SHOW(stat("s", &s));
    TRUE(S_ISREG(s.st_mode));
    SHOW(open("s", O_RDONLY | O_NOFOLLOW));
    int path = OK(open("s", O_PATH | O_NOFOLLOW));
    SHOW(readlinkat(path, "", text, sizeof text));
    SHOW(symlink("loop2", "loop1"));
    SHOW(symlink("loop1", "loop2"));
    SHOW(open("loop1", O_RDONLY));
    SHOW(stat("loop1", &s));
    SHOW(lstat("loop1", &s));
    SHOW(symlink("nowhere", "dangling"));
    SHOW(stat("dangling", &s));
    SHOW(open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600));
    OK(open("dangling", O_CREAT | O_WRONLY, 0600));
    SHOW(access("nowhere", F_OK));
    mkdir("dir", 0755);
    put("dir/inner", "deep");
    SHOW(symlink("dir", "to-dir"));
    cat("to-dir/inner");
    cat("to-dir/../dir/./inner");
    SHOW(rmdir("to-dir"));
    SHOW(unlink("to-dir/"));
    SHOW(symlink("/", "root"));
    SHOW(access("root/tmp", F_OK));
    SHOW(symlink("../../../../../../../../tmp", "up"));
    SHOW(access("up/.", F_OK));
    SHOW(linkat(AT_FDCWD, "s", AT_FDCWD, "hard-s", 0));
    SHOW(readlink("hard-s", text, sizeof text));
    SHOW(linkat(AT_FDCWD, "s", AT_FDCWD, "hard-b", AT_SYMLINK_FOLLOW));
    SHOW(readlink("hard-b", text, sizeof text));
    char name[32], target[32];
    put("chain0", "end of the chain");
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof name, "chain%d", i);
        snprintf(target, sizeof target, "chain%d", i - 1);
        symlink(target, name);
    }
    cat("chain40");
    cat("chain41");
}

static void renames(void)
{
    put("r1", "1");
    put("r2", "2");
    SHOW(rename("r1", "r2"));
    SHOW(access("r1", F_OK));
    cat("r2");
    SHOW(rename("r2", "r2"));
    SHOW(rename("missing", "r3"));
    SHOW(rename("r2", "no/where"));
    put("r1", "1");
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "r1", AT_FDCWD, "r2", 1 /* NOREPLACE */));
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "r1", AT_FDCWD, "r2", 2 /* EXCHANGE */));
    cat("r1");
    SHOW(syscall(SYS_renameat2, AT_FDCWD, "r1", AT_FDCWD, "r3", 1));
    SHOW(rename("r3", "dir/moved"));
    cat("dir/moved");
    SHOW(link("dir/moved", "same"));
    SHOW(rename("dir/moved", "same")); /* two names of one file: nothing happens */
    SHOW(access("dir/moved", F_OK));
    SHOW(rename("dir", "renamed"));
    cat("to-dir/inner");
    cat("renamed/inner");
}

static void nameless(void)
{
    struct stat s;
    char text[8] = "";
    int fd = NEED(open("gone", O_RDWR | O_CREAT, 0600));
    SHOW(unlink("gone"));
    SHOW(write(fd, "still", 5));
    SHOW(pread(fd, text, 5, 0));
    say("%s", text);
    SHOW(fstat(fd, &s));
    SHOW(s.st_nlink);
    SHOW(s.st_size);
    SHOW(open("gone", O_RDONLY));
}

int main(void)
{
    scratch();
    hard();
    symbolic();
    renames();
    nameless();
    return 0;
}
