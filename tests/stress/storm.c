/* A storm: processes that fork, execute, talk and signal for some seconds, checking every result.
 *
 * usage: storm PROCESSES SECONDS SEED
 * Writes "tick ROUNDS" lines now and then; at the end "done ROUNDS" and exits 0, or says what went
 * wrong and exits 1. Every worker owns a directory and knows what each call must give.
 */
#include "../guests/guest.h"
#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

static uint64_t state;
static volatile uint64_t *rounds; /* shared: one counter a worker */
static char self[PATH_MAX];

static unsigned any(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % below;
}

#define CHECK(condition) do { if (!(condition)) { \
    fprintf(stderr, "storm: %s:%d: %s (errno %s)\n", __FILE__, __LINE__, #condition, errno_name(errno)); \
    exit(1); } } while (0)

static int collect(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    return status;
}

static void forks(void)
{
    pid_t children[8];
    int count = 1 + any(8), code = any(200);
    for (int i = 0; i < count; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (!children[i])
            _exit(code + i);
    }
    for (int i = 0; i < count; i++) {
        int status = collect(children[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code + i);
    }
}

static void executes(void)
{
    char code[16], text[64] = "";
    int p[2], number = any(100);
    CHECK(!pipe2(p, O_CLOEXEC));
    snprintf(code, sizeof code, "%d", number);
    pid_t pid = any(2) ? fork() : vfork();
    CHECK(pid >= 0);
    if (!pid) {
        dup2(p[1], 1);
        execl(self, "storm", "answer", code, (char *)NULL);
        _exit(127);
    }
    close(p[1]);
    size_t got = 0;
    for (ssize_t n; (n = read(p[0], text + got, sizeof text - 1 - got)) > 0;)
        got += n;
    close(p[0]);
    int status = collect(pid);
    char expected[64];
    snprintf(expected, sizeof expected, "answer %d of %d\n", number, pid);
    CHECK(!strcmp(text, expected));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == number);
}

static void scripts(void)
{
    char text[PATH_MAX + 64];
    int fd = open("script", O_WRONLY | O_CREAT | O_TRUNC, 0755), number = any(100);
    CHECK(fd >= 0);
    int n = snprintf(text, sizeof text, "#!%s answer\n", self);
    CHECK(write(fd, text, n) == n && !close(fd));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        char code[16];
        snprintf(code, sizeof code, "%d", number);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execl("./script", "script", code, (char *)NULL);
        _exit(127);
    }
    int status = collect(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 77); /* "answer ./script": not a number */
}

static void pipes(void)
{
    int down[2], up[2];
    CHECK(!pipe(down) && !pipe(up));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        close(down[1]);
        close(up[0]);
        unsigned char block[4096];
        uint32_t sum = 0;
        for (ssize_t n; (n = read(down[0], block, sizeof block)) > 0;)
            for (ssize_t i = 0; i < n; i++)
                sum = sum * 31 + block[i];
        _exit(write(up[1], &sum, sizeof sum) != sizeof sum);
    }
    close(down[0]);
    close(up[1]);
    unsigned char block[3000];
    uint32_t expected = 0, sum;
    for (int k = 0; k < 20; k++) {
        size_t size = 1 + any(sizeof block);
        for (size_t i = 0; i < size; i++) {
            block[i] = (unsigned char)any(256);
            expected = expected * 31 + block[i];
        }
        for (size_t done = 0; done < size;) {
            ssize_t n = write(down[1], block + done, size - done);
            CHECK(n > 0 || errno == EINTR);
            done += n > 0 ? n : 0;
        }
    }
    close(down[1]);
    CHECK(read(up[0], &sum, sizeof sum) == sizeof sum && sum == expected);
    close(up[0]);
    CHECK(collect(pid) == 0);
}

static volatile int caught, last_value;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    caught++;
    last_value = info->si_value.sival_int;
}

static void signals(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(!sigaction(SIGRTMIN + 1, &action, NULL));
    int p[2], wanted = 1 + any(20), before = caught;
    char byte;
    CHECK(!pipe(p));
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        for (int i = 0; i < wanted; i++) {
            union sigval value = {.sival_int = i};
            while (sigqueue(parent, SIGRTMIN + 1, value))
                if (errno != EAGAIN)
                    _exit(1);
        }
        _exit(write(p[1], "d", 1) != 1);
    }
    CHECK(read(p[0], &byte, 1) == 1); /* interrupted and restarted meanwhile */
    CHECK(collect(pid) == 0);
    CHECK(caught - before == wanted && last_value == wanted - 1);
    close(p[0]);
    close(p[1]);
    pid = fork();
    CHECK(pid >= 0);
    if (!pid)
        for (;;)
            pause();
    int how = any(2) ? SIGKILL : SIGTERM;
    CHECK(!kill(pid, how));
    int status = collect(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == how);
}

static void files(void)
{
    char name[64], other[64], text[256], back[256];
    int count = 2 + any(10);
    CHECK(!mkdir("d", 0755) && !chdir("d"));
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "file-%d", i);
        int size = snprintf(text, sizeof text, "content %u of %d", any(1000000), i);
        int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
        CHECK(fd >= 0 && write(fd, text, size) == size);
        CHECK(pread(fd, back, size, 0) == size && !memcmp(text, back, size));
        struct stat s;
        CHECK(!fstat(fd, &s) && s.st_size == size && !close(fd));
        CHECK(!stat(name, &s) && s.st_size == size && (s.st_mode & 0777) == 0640);
        snprintf(other, sizeof other, "renamed-%d", i);
        CHECK(!rename(name, other) && stat(name, &s) == -1 && errno == ENOENT);
        CHECK(!symlink(other, name) && !stat(name, &s) && s.st_size == size);
        ssize_t n = readlink(name, back, sizeof back);
        CHECK(n == (ssize_t)strlen(other) && !memcmp(back, other, n));
        CHECK(!unlink(name) && !unlink(other) && access(other, F_OK) == -1);
    }
    CHECK(!chdir("..") && !rmdir("d"));
}

static void sockets(int worker)
{
    char text[64];
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "sock"};
    CHECK(server >= 0 && !bind(server, (struct sockaddr *)&name, sizeof name) && !listen(server, 8));
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    CHECK(tcp >= 0 && !bind(tcp, (struct sockaddr *)&address, sizeof address) && !listen(tcp, 8));
    CHECK(!getsockname(tcp, (struct sockaddr *)&address, &size) && address.sin_port);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(a, (struct sockaddr *)&name, sizeof name) || connect(b, (struct sockaddr *)&address, sizeof address))
            _exit(1);
        int n = snprintf(text, sizeof text, "hello from %d", worker);
        _exit(write(a, text, n) != n || write(b, text, n) != n);
    }
    char expected[64];
    int wanted = snprintf(expected, sizeof expected, "hello from %d", worker);
    int ends[2] = {accept(server, NULL, NULL), accept(tcp, NULL, NULL)};
    for (int i = 0; i < 2; i++) {
        CHECK(ends[i] >= 0);
        int got = 0;
        for (ssize_t n; (n = read(ends[i], text + got, sizeof text - got)) > 0;)
            got += n;
        CHECK(got == wanted && !memcmp(text, expected, got));
        close(ends[i]);
    }
    CHECK(collect(pid) == 0);
    close(server);
    close(tcp);
    CHECK(!unlink("sock"));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long shared_count;

static void *thread_body(void *loops)
{
    for (long i = 0; i < (long)loops; i++) {
        pthread_mutex_lock(&mutex);
        shared_count++;
        pthread_mutex_unlock(&mutex);
    }
    return loops;
}

static void threads(void)
{
    pthread_t made[6];
    long each = 100 + any(1000), count = 2 + any(5);
    shared_count = 0;
    for (long i = 0; i < count; i++)
        CHECK(!pthread_create(&made[i], NULL, thread_body, (void *)each));
    for (long i = 0; i < count; i++) {
        void *result;
        CHECK(!pthread_join(made[i], &result) && result == (void *)each);
    }
    CHECK(shared_count == count * each);
}

static void memory(void)
{
    size_t size = 4096 * (1 + any(64));
    unsigned char *a = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED && a[size - 1] == 0);
    unsigned char mark = (unsigned char)any(256);
    memset(a, mark, size);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        int wrong = 0;
        for (size_t i = 0; i < size; i += 4096)
            wrong += a[i] != mark;
        memset(a, 0, size);
        _exit(wrong != 0);
    }
    CHECK(collect(pid) == 0);
    for (size_t i = 0; i < size; i += 4096)
        CHECK(a[i] == mark);
    CHECK(!munmap(a, size));
}

static void worker(int number, int64_t until)
{
    char directory[64];
    snprintf(directory, sizeof directory, "/tmp/storm-%d-%d", getpid(), number);
    CHECK(!mkdir(directory, 0755) && !chdir(directory));
    while (now_ms() < until) {
        switch (any(9)) {
        case 0: forks(); break;
        case 1: executes(); break;
        case 2: scripts(); break;
        case 3: pipes(); break;
        case 4: signals(); break;
        case 5: files(); break;
        case 6: sockets(number); break;
        case 7: threads(); break;
        case 8: memory(); break;
        }
        rounds[number]++;
    }
    unlink("script");
    CHECK(!chdir("/") && !rmdir(directory));
    exit(0);
}

int main(int count, char **arguments)
{
    if (count >= 3 && !strcmp(arguments[1], "answer")) {
        if (arguments[2][0] < '0' || arguments[2][0] > '9')
            return 77;
        printf("answer %s of %d\n", arguments[2], getpid());
        return atoi(arguments[2]);
    }
    CHECK(count == 4);
    int workers = atoi(arguments[1]);
    int64_t until = now_ms() + atof(arguments[2]) * 1000;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0);
    rounds = mmap(NULL, workers * sizeof *rounds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(rounds != MAP_FAILED);
    for (int i = 0; i < workers; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (!pid) {
            state = strtoull(arguments[3], NULL, 10) * 1000003 + i * 7919 + 88172645463325252ULL;
            worker(i, until);
        }
    }
    int failed = 0;
    uint64_t sum = 0;
    for (int left = workers; left;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            left--;
            failed |= status;
            continue;
        }
        CHECK(pid == 0);
        nap_ms(50);
        uint64_t now = 0;
        for (int i = 0; i < workers; i++)
            now += rounds[i];
        if (now >= sum + 100) {
            sum = now;
            say("tick %llu", (unsigned long long)sum);
        }
        if (now_ms() > until + 60000) {
            say("stuck with %d workers left", left);
            return 1;
        }
    }
    sum = 0;
    for (int i = 0; i < workers; i++)
        sum += rounds[i];
    say("done %llu", (unsigned long long)sum);
    return failed ? 1 : 0;
}
