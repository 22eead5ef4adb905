/* What programs read under /proc about themselves and their children. */
#include "guest.h"
#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static char text[200000];

static const char *slurp(const char *path)
{
    size_t total = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY);
    text[0] = 0;
    if (fd < 0) {
        say("%s: %s", path, errno_name(errno));
        return text;
    }
    while (total < sizeof text - 1 && (n = read(fd, text + total, sizeof text - 1 - total)) > 0)
        total += n;
    text[total] = 0;
    close(fd);
    return text;
}

static long field(const char *path, const char *name)
{
    const char *at = strstr(slurp(path), name);
    return at ? strtol(at + strlen(name), NULL, 0) : -1;
}

static void *parks(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "parked");
    for (;;)
        pause();
}

static void myself(void)
{
    char path[PATH_MAX] = "", name[64];
    TRUE(readlink("/proc/self/exe", path, sizeof path) > 0 && strstr(path, "proc_files"));
    memset(path, 0, sizeof path);
    SHOW(readlink("/proc/self/cwd", path, sizeof path) > 0);
    TRUE(strstr(path, "/guest-") != NULL);
    memset(path, 0, sizeof path);
    SHOW(readlink("/proc/self/root", path, sizeof path));
    say("%s", path);
    slurp("/proc/self/cmdline");
    TRUE(!strcmp(strrchr(text, '/') ? strrchr(text, '/') + 1 : text, "proc_files"));
    slurp("/proc/self/environ");
    TRUE(strstr(text, "PATH=") != NULL);
    TRUE(field("/proc/self/status", "\nPid:") == getpid());
    TRUE(field("/proc/self/status", "\nPPid:") == getppid());
    TRUE(field("/proc/self/status", "\nThreads:") == 1);
    TRUE(field("/proc/self/status", "\nVmRSS:") > 0);
    TRUE(field("/proc/self/stat", "") == getpid());
    TRUE(!strncmp(slurp("/proc/self/comm"), "proc_files\n", 11));
    prctl(PR_SET_NAME, "renamed");
    TRUE(!strcmp(slurp("/proc/self/comm"), "renamed\n"));
    TRUE(strstr(slurp("/proc/self/stat"), "(renamed) R ") != NULL);
    int here;
    unsigned long from, to, in = 0, heap = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    for (char line[512]; fgets(line, sizeof line, maps);) {
        if (sscanf(line, "%lx-%lx", &from, &to) != 2)
            say("bad line in maps: %s", line);
        if (strstr(line, "[stack]") && (unsigned long)&here >= from && (unsigned long)&here < to)
            in = 1;
        if ((unsigned long)slurp >= from && (unsigned long)slurp < to)
            heap = strstr(line, "proc_files") && strstr(line, "r-xp");
    }
    fclose(maps);
    say("stack found %lu, text found %lu", in, heap);
    snprintf(name, sizeof name, "/proc/%d/status", getpid());
    TRUE(field(name, "\nPid:") == getpid());
    TRUE(access("/proc/self/task", F_OK) == 0);
    snprintf(name, sizeof name, "/proc/self/task/%d/comm", getpid());
    TRUE(!strcmp(slurp(name), "renamed\n"));
    TRUE(strstr(slurp("/proc/self/limits"), "Max open files") != NULL);
    TRUE(strstr(slurp("/proc/self/mountinfo"), " /proc ") != NULL);
    TRUE(strstr(slurp("/proc/self/mounts"), " /proc ") != NULL);
    TRUE(strchr(slurp("/proc/self/cgroup"), ':') != NULL);
    TRUE(field("/proc/self/statm", "") > 0);
    TRUE(strstr(slurp("/proc/self/smaps"), "Rss:") != NULL);
    TRUE(strstr(slurp("/proc/self/io"), "rchar:") != NULL);
    TRUE(field("/proc/self/oom_score_adj", "") >= 0);
}

static void descriptors(void)
{
    int fd = NEED(open("/dev/null", O_RDONLY)), found = 0, others = 0;
    char path[64], target[PATH_MAX] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(readlink(path, target, sizeof target));
    say("%s", target);
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(dir));) {
        int n = atoi(e->d_name);
        found += e->d_name[0] != '.' && n == fd;
        others += e->d_name[0] != '.' && n > 3 + 3;
    }
    closedir(dir);
    say("listed %d, beyond ours %d", found, others);
    put("file", "through proc");
    int file = NEED(open("file", O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    cat(path);
    unlink("file");
    cat(path);
    memset(target, 0, sizeof target);
    SHOW(readlink(path, target, sizeof target) > 0);
    TRUE(strstr(target, "/file (deleted)") != NULL);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", file);
    lseek(file, 7, SEEK_SET);
    SHOW(field(path, "pos:"));
    int p[2];
    NEED(pipe(p));
    snprintf(path, sizeof path, "/dev/fd/%d", p[0]);
    memset(target, 0, sizeof target);
    SHOW(readlink(path, target, sizeof target) > 0);
    say("%.6s", target);
    write(p[1], "via /dev/fd", 11);
    close(p[1]);
    cat(path);
    SHOW(open("/proc/self/fd/999", O_RDONLY));
}

static void others(void)
{
    char path[64];
    pid_t child = NEED(fork());
    if (!child) {
        pthread_t thread;
        pthread_create(&thread, NULL, parks, NULL);
        for (;;)
            pause();
    }
    snprintf(path, sizeof path, "/proc/%d/status", child);
    TRUE(field(path, "\nPPid:") == getpid());
    for (int64_t until = now_ms() + 5000; field(path, "\nThreads:") != 2 && now_ms() < until;)
        nap_ms(1);
    SHOW(field(path, "\nThreads:"));
    snprintf(path, sizeof path, "/proc/%d/task", child);
    DIR *dir = opendir(path);
    int tasks = 0;
    for (struct dirent *e; (e = readdir(dir));)
        tasks += e->d_name[0] != '.';
    closedir(dir);
    SHOW(tasks);
    int listed = 0;
    dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir));)
        listed += atoi(e->d_name) == child;
    closedir(dir);
    SHOW(listed);
    kill(child, SIGKILL);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    TRUE(strstr(slurp(path), ") Z ") != NULL);
    reap("child", child);
    SHOW(access(path, F_OK));
    SHOW(open("/proc/99999999/stat", O_RDONLY));
    SHOW(mkdir("/proc/new", 0755));
    SHOW(access("/proc/nothing", F_OK));
}

static void machine(void)
{
    TRUE(field("/proc/meminfo", "MemTotal:") > 1000);
    TRUE(field("/proc/meminfo", "MemAvailable:") > 1000);
    TRUE(strlen(slurp("/proc/cpuinfo")) > 100);
    TRUE(strstr(slurp("/proc/stat"), "cpu0 ") != NULL);
    TRUE(strtod(slurp("/proc/uptime"), NULL) > 0);
    TRUE(strchr(slurp("/proc/loadavg"), '/') != NULL);
    TRUE(strstr(slurp("/proc/version"), "Linux version ") == text);
    TRUE(strstr(slurp("/proc/filesystems"), "proc") != NULL);
    TRUE(field("/proc/sys/kernel/pid_max", "") > 100);
    TRUE(strchr(slurp("/proc/sys/kernel/osrelease"), '.') != NULL);
    TRUE(strlen(slurp("/proc/sys/kernel/random/boot_id")) == 37);
    TRUE(strlen(slurp("/proc/sys/kernel/hostname")) > 1);
    TRUE(field("/proc/sys/vm/overcommit_memory", "") >= 0);
    TRUE(field("/proc/sys/fs/file-max", "") > 0);
    TRUE(field("/proc/sys/net/core/somaxconn", "") > 0);
    TRUE(strstr(slurp("/proc/net/dev"), "lo:") != NULL);
    TRUE(strstr(slurp("/sys/devices/system/cpu/online"), "0") == text);
}

int main(void)
{
    scratch();
    myself();
    descriptors();
    others();
    machine();
    return 0;
}
