/* inotify: what happened in a directory. */
#include "guest.h"
#include <sys/inotify.h>

static int fd;

static void events(const char *what)
{
    char buffer[4096] __attribute__((aligned(8)));
    ssize_t size = read(fd, buffer, sizeof buffer);
    printf("%s:", what);
    if (size < 0)
        printf(" %s", errno_name(errno));
    uint32_t cookie = 0;
    for (char *at = buffer; size > 0 && at < buffer + size;) {
        struct inotify_event *e = (struct inotify_event *)at;
        printf(" [%x%s%s%s]", e->mask, e->len ? " " : "", e->len ? e->name : "",
               e->cookie ? e->cookie == cookie ? " paired" : " moved" : "");
        if (e->cookie)
            cookie = e->cookie;
        at += sizeof *e + e->len;
    }
    putchar('\n');
    fflush(stdout);
}

int main(void)
{
    scratch();
    fd = NEED(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    int watch = SHOW(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVE | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB));
    SHOW(inotify_add_watch(fd, "missing", IN_CREATE));
    events("nothing");
    put("a", "text");
    events("written");
    chmod("a", 0600);
    events("mode");
    rename("a", "b");
    events("renamed");
    mkdir("d", 0755);
    events("directory");
    link("b", "c");
    unlink("c");
    events("linked and unlinked");
    rmdir("d");
    unlink("b");
    events("removed");
    struct pollfd wait_for = {fd, POLLIN, 0};
    pid_t child = NEED(fork());
    if (!child) {
        nap_ms(30);
        close(open("late", O_CREAT | O_WRONLY, 0600));
        _exit(0);
    }
    SHOW(poll(&wait_for, 1, 5000));
    reap("child", child);
    events("from another process");
    SHOW(inotify_rm_watch(fd, watch));
    events("watch removed");
    SHOW(inotify_rm_watch(fd, watch));
    return 0;
}
