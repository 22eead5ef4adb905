/* Users, groups and capabilities, starting as root: what is dropped stays dropped. */
#include "guest.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static void ids(const char *when)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    getresuid(&r, &e, &s);
    getresgid(&rg, &eg, &sg);
    say("%s: uid %d %d %d gid %d %d %d", when, (int)r, (int)e, (int)s, (int)rg, (int)eg, (int)sg);
}

static void in_child(const char *what, void (*body)(void))
{
    pid_t child = NEED(fork());
    if (!child) {
        body();
        _exit(0);
    }
    reap(what, child);
}

static int effective(int capability)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    syscall(SYS_capget, &header, data);
    return data[capability / 32].effective >> capability % 32 & 1;
}

static void drop(void)
{
    gid_t groups[3] = {1000, 2000, 3000}, seen[8];
    SHOW(setgroups(3, groups));
    int n = SHOW(getgroups(8, seen));
    for (int i = 0; i < n; i++)
        say("group %d", (int)seen[i]);
    SHOW(getgroups(0, NULL));
    SHOW(getgroups(1, seen));
    SHOW(setgid(1000));
    SHOW(effective(CAP_CHOWN));
    SHOW(setuid(1000));
    ids("dropped");
    SHOW(effective(CAP_CHOWN));
    SHOW(setuid(0));
    SHOW(seteuid(0));
    SHOW(setresuid(0, 0, 0));
    SHOW(setgid(0));
    SHOW(setgroups(0, NULL));
    SHOW(setuid(1000));
    SHOW(chown("mine", 0, 0));
    SHOW(open("secret", O_RDONLY));
    SHOW(access("secret", R_OK));
    OK(open("public", O_RDONLY));
    SHOW(open("public", O_WRONLY));
    SHOW(unlink("public"));
    SHOW(open("new", O_CREAT | O_WRONLY, 0644));
    SHOW(mkdir("closed/x", 0755));
    SHOW(chdir("closed"));
    OK(open("for-group", O_RDONLY));
    SHOW(chmod("public", 0666));
    OK(open("shared/made", O_CREAT | O_WRONLY, 0644));
    struct stat s;
    SHOW(stat("shared/made", &s));
    say("made by %d:%d", (int)s.st_uid, (int)s.st_gid);
    SHOW(unlink("shared/roots")); /* sticky */
    SHOW(unlink("shared/made"));
    SHOW(kill(getppid(), SIGTERM));
    SHOW(mknod("node", S_IFCHR | 0600, 0));
    SHOW(chroot("/"));
    SHOW(sethostname("x", 1));
}

static void saved(void)
{
    SHOW(seteuid(1000));
    ids("euid");
    SHOW(open("secret", O_RDONLY));
    SHOW(seteuid(0));
    OK(open("secret", O_RDONLY));
    SHOW(setresuid(1, 2, 3));
    ids("three");
    SHOW(seteuid(3));
    SHOW(seteuid(1));
    SHOW(seteuid(4));
    ids("swapped");
    SHOW(setreuid(-1, 2));
}

static void keep(void)
{
    SHOW(prctl(PR_GET_KEEPCAPS));
    SHOW(prctl(PR_SET_KEEPCAPS, 1));
    SHOW(setuid(1000));
    SHOW(effective(CAP_CHOWN)); /* kept as permitted, not effective */
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    SHOW(syscall(SYS_capget, &header, data));
    SHOW(data[0].permitted & 1);
    data[0].effective = data[0].permitted;
    data[1].effective = data[1].permitted;
    SHOW(syscall(SYS_capset, &header, data));
    SHOW(chown("mine", 7, 8));
    data[0].permitted = 0xffffffff;
    data[1].permitted = 0xff;
    SHOW(syscall(SYS_capset, &header, data));
}

static void filesystem_ids(void)
{
    SHOW(setfsuid(1234));
    SHOW(setfsuid(-1));
    int fd = OK(open("shared/fs", O_CREAT | O_WRONLY, 0600));
    struct stat s;
    SHOW(fstat(fd, &s));
    SHOW(s.st_uid);
}

static void owners(void)
{
    struct stat s;
    put("o", "x");
    SHOW(chown("o", 12, 34));
    chmod("o", 06755);
    stat("o", &s);
    say("%d:%d %o", (int)s.st_uid, (int)s.st_gid, (unsigned)s.st_mode & 07777);
    SHOW(chown("o", 56, -1));
    stat("o", &s);
    say("%d:%d %o", (int)s.st_uid, (int)s.st_gid, (unsigned)s.st_mode & 07777);
    symlink("o", "link");
    SHOW(lchown("link", 1, 2));
    lstat("link", &s);
    say("link %d:%d", (int)s.st_uid, (int)s.st_gid);
    stat("o", &s);
    say("target %d:%d", (int)s.st_uid, (int)s.st_gid);
    SHOW(fchownat(AT_FDCWD, "link", 3, 4, 0));
    stat("o", &s);
    say("target %d:%d", (int)s.st_uid, (int)s.st_gid);
    int fd = NEED(open("o", O_RDWR));
    SHOW(fchown(fd, 5, 6));
    fstat(fd, &s);
    say("%d:%d", (int)s.st_uid, (int)s.st_gid);
    SHOW(link("o", "hard"));
    SHOW(rename("o", "renamed"));
    stat("hard", &s);
    say("hard %d:%d", (int)s.st_uid, (int)s.st_gid);
    mkdir("setgid", 0755);
    chown("setgid", 0, 77);
    chmod("setgid", 02775);
    put("setgid/file", "");
    mkdir("setgid/dir", 0755);
    stat("setgid/file", &s);
    say("inherited group %d", (int)s.st_gid);
    stat("setgid/dir", &s);
    say("inherited group %d and bit %o", (int)s.st_gid, (unsigned)s.st_mode & 07000);
}

int main(void)
{
    scratch();
    ids("start");
    chmod(".", 0755);
    put("secret", "s");
    chmod("secret", 0600);
    put("public", "p");
    put("mine", "m");
    chown("mine", 1000, 1000);
    mkdir("closed", 0700);
    put("for-group", "g");
    chown("for-group", 0, 2000);
    chmod("for-group", 0640);
    mkdir("shared", 0777);
    chmod("shared", 01777);
    put("shared/roots", "");
    in_child("drop", drop);
    in_child("saved", saved);
    in_child("keep", keep);
    in_child("fs ids", filesystem_ids);
    owners();
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(9999, 0, 0, 0, 0));
    return 0;
}
