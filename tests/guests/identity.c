/* The machine and the process as programs see them. */
#include "guest.h"
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

extern char **environ;

int main(int count, char **arguments)
{
    struct utsname name;
    SHOW(uname(&name));
    say("%s %d", name.sysname, strchr(name.release, '.') != NULL);
#ifdef __x86_64__
    TRUE(!strcmp(name.machine, "x86_64"));
#else
    say("!strcmp(name.machine, \"x86_64\"): %s", strcmp(name.machine, "aarch64") ? "NO" : "yes");
#endif
    char host[256] = "";
    SHOW(gethostname(host, sizeof host));
    TRUE(!strcmp(host, name.nodename) && host[0]);
    struct sysinfo info;
    SHOW(sysinfo(&info));
    TRUE(info.totalram > 0 && info.uptime > 0 && info.procs > 0 && info.mem_unit > 0);
    TRUE(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    TRUE(sysconf(_SC_PAGESIZE) == 4096);
    TRUE(sysconf(_SC_PHYS_PAGES) > 1000);
    cpu_set_t set;
    CPU_ZERO(&set);
    TRUE(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    unsigned cpu = 9999, node = 9999;
    SHOW(syscall(SYS_getcpu, &cpu, &node, NULL));
    TRUE(cpu < 9999 && node < 9999);
    SHOW(sched_yield());
    SHOW(syscall(SYS_sched_getscheduler, 0));
    SHOW(sched_get_priority_max(SCHED_FIFO));
    struct timespec slice;
    SHOW(syscall(SYS_sched_rr_get_interval, 0, &slice));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 4));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(nice(2));
    SHOW(getpriority(PRIO_PROCESS, 99999999));

    TRUE(getauxval(AT_PAGESZ) == 4096);
    TRUE(getauxval(AT_RANDOM) != 0);
    TRUE(getauxval(AT_PHDR) != 0 && getauxval(AT_PHNUM) > 0 && getauxval(AT_ENTRY) != 0);
    TRUE(getauxval(AT_UID) == getuid() && getauxval(AT_EUID) == geteuid() && getauxval(AT_GID) == getgid());
    SHOW(getauxval(AT_SECURE));
    SHOW(getauxval(AT_CLKTCK));
    const char *file = (const char *)getauxval(AT_EXECFN);
    TRUE(file && strstr(file, "identity"));
#ifdef __x86_64__
#define PLATFORM "x86_64"
#else
#define PLATFORM "aarch64"
#endif
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    say("getauxval(AT_PLATFORM) && !strcmp((const char *)getauxval(AT_PLATFORM), \"x86_64\"): %s",
        platform && !strcmp(platform, PLATFORM) ? "yes" : "NO");
    TRUE(getauxval(AT_SYSINFO_EHDR) != 0);
    TRUE((uintptr_t)__builtin_frame_address(0) % 16 == 0);
    TRUE(count == 1 && arguments[1] == NULL && strstr(arguments[0], "identity"));
    TRUE((char **)(arguments + count + 1) == environ); /* laid out as the ABI says */
    TRUE(getpid() > 0 && getppid() >= 0 && syscall(SYS_gettid) == getpid());
    TRUE(syscall(SYS_set_tid_address, &cpu) == getpid());
    char title[16] = "";
    SHOW(prctl(PR_SET_NAME, "a-name-of-more-than-15-bytes"));
    SHOW(prctl(PR_GET_NAME, title));
    say("%s", title);
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    int number = 0;
    SHOW(prctl(PR_GET_PDEATHSIG, &number));
    TRUE(number == SIGUSR1);
    SHOW(syscall(SYS_personality, 0xffffffff));
    SHOW(syscall(500));
    SHOW(syscall(100000));
    SHOW(syscall(-1));
    TRUE(syscall(SYS_membarrier, 0, 0, 0) >= 0);
    umask(0);
    SHOW(umask(077));
    SHOW(umask(022));
    sync();
    return 0;
}
