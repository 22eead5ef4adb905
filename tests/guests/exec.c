/* execve: arguments, environment, errors, scripts, descriptors. */
#include "guest.h"

static char self[PATH_MAX];

/* Run `path` with these arguments in a child and tell how it ended or why it could not start. */
static void run(const char *what, const char *path, char **arguments, char **environment)
{
    pid_t child = NEED(fork());
    if (!child) {
        execve(path, arguments, environment);
        say("%s: %s", what, errno_name(errno));
        _exit(126);
    }
    reap(what, child);
}

static void script(const char *path, const char *text, int mode)
{
    put(path, text);
    chmod(path, mode);
}

static void errors(void)
{
    char *none[] = {"x", NULL};
    run("missing", "./missing", none, NULL);
    run("directory", ".", none, NULL);
    put("plain", "not a program\n");
    run("no x bit", "./plain", none, NULL);
    chmod("plain", 0755);
    run("no format", "./plain", none, NULL);
    script("empty", "", 0755);
    run("empty", "./empty", none, NULL);
    run("under a file", "plain/x", none, NULL);
    symlink("loop", "loop");
    run("loop", "./loop", none, NULL);
    script("elf", "\177ELF", 0755);
    run("elf of 4 bytes", "./elf", none, NULL);
    script("lost", "#!/missing/interpreter\n", 0755);
    run("lost interpreter", "./lost", none, NULL);
    script("bang", "#!\n", 0755);
    run("bare #!", "./bang", none, NULL);
    script("dirbang", "#!/\n", 0755);
    run("directory as interpreter", "./dirbang", none, NULL);
    char *huge[3] = {"x", malloc(200000), NULL};
    memset(huge[1], 'a', 199999);
    huge[1][199999] = 0;
    run("argument of 200000 bytes", self, huge, NULL);
    free(huge[1]);
}

static void scripts(void)
{
    char text[PATH_MAX + 64];
    char *arguments[] = {"zero", "one", "two words", NULL};
    char *environment[] = {"A=1", "B=", "LONG=xyz", NULL};
    snprintf(text, sizeof text, "#!%s show\n", self);
    script("s1", text, 0755);
    run("script", "./s1", arguments, environment);
    snprintf(text, sizeof text, "#! \t%s   show with spaces \t\nrest\n", self);
    script("s2", text, 0755);
    run("one argument only", "./s2", arguments, environment);
    char where[PATH_MAX];
    NEED(getcwd(where, sizeof where) ? 0 : -1);
    script("n0", text, 0755);
    for (int i = 1; i <= 6; i++) {
        char name[8];
        snprintf(text, sizeof text, "#!n%d\n", i - 1);
        snprintf(name, sizeof name, "n%d", i);
        script(name, text, 0755);
    }
    run("nested 3", "./n3", arguments, environment);
    run("nested 4", "./n4", arguments, environment);
    run("nested 6", "./n6", arguments, environment);
    snprintf(text, sizeof text, "#!%s", self);
    script("s3", text, 0755);
    run("no newline", "./s3", (char *[]){"zero", NULL}, environment);
}

static void many(void)
{
    char **arguments = calloc(6003, sizeof *arguments);
    arguments[0] = "exec";
    arguments[1] = "count";
    for (int i = 2; i < 6002; i++) {
        arguments[i] = malloc(16);
        snprintf(arguments[i], 16, "argument-%04d", i);
    }
    char **environment = calloc(1001, sizeof *environment);
    for (int i = 0; i < 1000; i++) {
        environment[i] = malloc(300);
        memset(environment[i], 'v', 299);
        int n = snprintf(environment[i], 300, "V%d=\n", i);
        environment[i][n] = 'v';
        environment[i][299] = 0;
    }
    run("6002 arguments, 300 kB of environment", self, arguments, environment);
    run("no arguments", self, (char *[]){NULL}, NULL);
}

static void descriptors(void)
{
    int kept = NEED(open("plain", O_RDONLY)), closed = NEED(open("plain", O_RDONLY | O_CLOEXEC));
    char a[16], b[16];
    dup2(kept, 50);
    dup3(closed, 51, O_CLOEXEC);
    snprintf(a, sizeof a, "%d", 50);
    snprintf(b, sizeof b, "%d", 51);
    lseek(50, 4, SEEK_SET);
    run("descriptors", self, (char *[]){"exec", "fds", a, b, NULL}, NULL);
    SHOW(fcntl(51, F_GETFD)); /* closed there, not here */
    SHOW(lseek(50, 0, SEEK_CUR));
    int fd = NEED(open(self, O_RDONLY | O_CLOEXEC));
    pid_t child = NEED(fork());
    if (!child) {
        char *arguments[] = {"by descriptor", "show", NULL};
        fexecve(fd, arguments, (char *[]){"E=f", NULL});
        _exit(125);
    }
    reap("fexecve", child);
    child = NEED(fork());
    if (!child) {
        chdir("/");
        char *arguments[] = {"execveat", "show", NULL};
        int dir = open("/proc/self/cwd", O_PATH);
        syscall(SYS_execveat, dir, self + 1, arguments, (char *[]){NULL}, 0);
        _exit(125);
    }
    reap("execveat", child);
}

int main(int count, char **arguments, char **environment)
{
    if (count == 0 || (count == 1 && (!arguments[0] || !arguments[0][0]))) {
        say("argc %d", count);
        return 20;
    }
    if (count > 1 && strncmp(arguments[1], "show", 4) == 0) {
        for (int i = 0; i < count; i++) {
            const char *base = strstr(arguments[i], "/exec");
            say("  argv[%d] = \"%s\"", i, base ? base + 1 : arguments[i]);
        }
        for (char **e = environment; *e; e++)
            say("  env %s", *e);
        return 21;
    }
    if (count > 1 && !strcmp(arguments[1], "count")) {
        unsigned long bytes = 0, variables = 0;
        for (int i = 0; i < count; i++)
            bytes += strlen(arguments[i]);
        for (char **e = environment; *e; e++, variables++)
            bytes += strlen(*e);
        say("  %d arguments, %lu variables, %lu bytes", count, variables, bytes);
        TRUE(getenv("V999") && getenv("V999")[0] == '\n');
        return 22;
    }
    if (count > 3 && !strcmp(arguments[1], "fds")) {
        SHOW(fcntl(atoi(arguments[2]), F_GETFD));
        SHOW(fcntl(atoi(arguments[3]), F_GETFD));
        SHOW(lseek(atoi(arguments[2]), 0, SEEK_CUR));
        return 23;
    }
    if (getenv("A")) { /* a script without an argument of its own */
        say("  %d arguments, last %s", count, arguments[count - 1]);
        return 24;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    NEED(n);
    self[n] = 0;
    scratch();
    errors();
    scripts();
    many();
    descriptors();
    return 0;
}
