/* Extended attributes of files, links and descriptors. */
#include "guest.h"
#include <sys/xattr.h>

static int contains(const char *list, ssize_t size, const char *name)
{
    for (const char *at = list; at < list + size; at += strlen(at) + 1)
        if (!strcmp(at, name))
            return 1;
    return 0;
}

int main(void)
{
    char value[64] = "", list[256];
    if (chdir("/var/tmp"))
        scratch();
    char path[] = "xattr-XXXXXX";
    if (!mkdtemp(path) || chdir(path)) {
        say("NEED a directory");
        return 99;
    }
    put("f", "x");
    SHOW(getxattr("f", "user.none", value, sizeof value));
    SHOW(setxattr("f", "user.one", "first", 5, 0));
    SHOW(getxattr("f", "user.one", value, sizeof value));
    say("%.5s", value);
    SHOW(getxattr("f", "user.one", NULL, 0));
    SHOW(getxattr("f", "user.one", value, 2));
    SHOW(setxattr("f", "user.one", "again", 5, XATTR_CREATE));
    SHOW(setxattr("f", "user.two", "second", 6, XATTR_REPLACE));
    SHOW(setxattr("f", "user.two", "second", 6, 0));
    SHOW(setxattr("f", "user.empty", "", 0, 0));
    SHOW(getxattr("f", "user.empty", value, sizeof value));
    ssize_t size = listxattr("f", list, sizeof list);
    TRUE(size == 9 + 9 + 11 || size > 29);
    say("listed %d %d %d", contains(list, size, "user.one"), contains(list, size, "user.two"), contains(list, size, "user.empty"));
    SHOW(listxattr("f", list, 3));
    SHOW(removexattr("f", "user.one"));
    SHOW(removexattr("f", "user.one"));
    int fd = NEED(open("f", O_RDWR));
    SHOW(fsetxattr(fd, "user.fd", "by fd", 5, 0));
    SHOW(fgetxattr(fd, "user.fd", value, sizeof value));
    SHOW(fremovexattr(fd, "user.fd"));
    SHOW(rename("f", "g"));
    SHOW(getxattr("g", "user.two", value, sizeof value));
    SHOW(getxattr("missing", "user.two", value, sizeof value));
    SHOW(setxattr("g", "nonsense", "x", 1, 0));
    SHOW(setxattr("g", "user.", "x", 1, 0));
    symlink("g", "l");
    SHOW(getxattr("l", "user.two", value, sizeof value));
    SHOW(lgetxattr("l", "user.two", value, sizeof value));
    SHOW(lsetxattr("l", "user.two", "x", 1, 0));
    mkdir("d", 0755);
    SHOW(setxattr("d", "user.dir", "d", 1, 0));
    SHOW(getxattr("d", "user.dir", value, sizeof value));
    unlink("l");
    unlink("g");
    rmdir("d");
    if (!chdir(".."))
        rmdir(path); /* not in /tmp, which whoever runs this cleans up */
    return 0;
}
