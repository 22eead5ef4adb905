/* Calls that do not sleep never fail with EINTR, however many signals come. */
#include "guest.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

static volatile int signals;

static void handler(int number)
{
    (void)number;
    signals++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler}; /* without SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    scratch();
    put("text", "no code");
    int file = NEED(open("text", O_RDONLY));
    int s = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 200}, {0, 200}}, NULL);
    int text_failed = 0, data_failed = 0, set_failed = 0, get_failed = 0, path_failed = 0;
    int64_t end = now_ms() + 1000;
    while (now_ms() < end || signals < 100) {
        void *text = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
        text_failed += text == MAP_FAILED || munmap(text, 4096);
        void *data = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        data_failed += data == MAP_FAILED || mprotect(data, 65536, PROT_READ) || munmap(data, 65536);
        int value = 65536;
        socklen_t size = sizeof value;
        set_failed += setsockopt(s, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) != 0;
        get_failed += getsockopt(s, SOL_SOCKET, SO_TYPE, &value, &size) != 0;
        struct stat seen;
        path_failed += stat("/etc/passwd", &seen) || lseek(file, 0, SEEK_SET);
    }
    SHOW(text_failed);
    SHOW(data_failed);
    SHOW(set_failed);
    SHOW(get_failed);
    SHOW(path_failed);
    return 0;
}
