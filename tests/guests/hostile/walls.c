/* What an emulator's process could do if its guest ran calls of its own: nothing, behind its walls. */
#include "../guest.h"
#include <sys/socket.h>
#include <sys/xattr.h>

int main(void)
{
    SHOW(open("/etc/passwd", O_RDONLY));
    SHOW(open("/tmp/ddock-walls", O_WRONLY | O_CREAT, 0600));
    SHOW(open("/proc/self/environ", O_RDONLY));
    SHOW(mkdir("/tmp/ddock-walls", 0700));
    SHOW(unlink("/tmp/ddock-walls-target"));
    SHOW(chmod("/tmp/ddock-walls-target", 0777));
    SHOW(truncate("/tmp/ddock-walls-target", 0));
    SHOW(setxattr("/tmp/ddock-walls-target", "user.x", "y", 1, 0));
    SHOW(socket(AF_INET, SOCK_DGRAM, 0));
    SHOW(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(kill(getppid(), 0));
    SHOW(execl("/bin/true", "true", (char *)NULL));
    int ends[2];
    SHOW(pipe(ends));
    pid_t child = NEED(fork());
    if (!child)
        _exit(5);
    reap("child", child);
    return 0;
}
