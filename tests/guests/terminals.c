/* A pseudo-terminal made inside: modes, size, signals from keys, job control, hang-up. */
#include "guest.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master;
static char slave_name[64];

static void expect(const char *what, size_t bytes)
{
    char text[256] = "";
    size_t got = 0;
    struct pollfd wait_for = {master, POLLIN, 0};
    while (got < bytes && poll(&wait_for, 1, 5000) > 0) {
        ssize_t n = read(master, text + got, sizeof text - 1 - got);
        if (n <= 0)
            break;
        got += n;
    }
    printf("%s:", what);
    for (size_t i = 0; i < got; i++)
        if (text[i] >= ' ')
            putchar(text[i]);
        else
            printf("<%d>", text[i]);
    putchar('\n');
    fflush(stdout);
}

static void handler(int number)
{
    char text[32];
    int n = snprintf(text, sizeof text, "got %s\n", signal_name(number));
    write(1, text, n);
}

/* The program on the terminal: answers each line, tells of signals. */
static void on_terminal(void)
{
    setsid();
    signal(SIGHUP, SIG_DFL); /* ignored where nohup started us */
    int fd = open(slave_name, O_RDWR); /* becomes the controlling terminal */
    dup2(fd, 0);
    dup2(fd, 1);
    dup2(fd, 2);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    char line[128];
    dprintf(1, "tty %d %d session %d group %d\n", isatty(0), open("/dev/tty", O_RDWR) > 2,
            tcgetsid(0) == getpid(), tcgetpgrp(0) == getpgrp());
    sigset_t taken, none;
    sigemptyset(&none);
    sigfillset(&taken);
    sigdelset(&taken, SIGHUP);
    sigprocmask(SIG_BLOCK, &taken, NULL); /* signals arrive while waiting and at no other time */
    for (;;) {
        struct pollfd wait_for = {0, POLLIN, 0};
        if (ppoll(&wait_for, 1, NULL, &none) < 0 && errno == EINTR) {
            dprintf(1, "interrupted\n");
            continue;
        }
        ssize_t n = read(0, line, sizeof line);
        if (n == 0)
            dprintf(1, "end of file\n");
        else if (n < 0) {
            if (errno != EIO)
                _exit(51);
            alarm(10);
            pause(); /* hung up: that can be seen before SIGHUP has come */
            _exit(50);
        }
        else
            dprintf(1, "%zd bytes\n", n);
    }
}

static void modes(void)
{
    struct termios t, u;
    int slave = NEED(open(slave_name, O_RDWR | O_NOCTTY));
    SHOW(isatty(slave));
    SHOW(tcgetattr(slave, &t));
    TRUE((t.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG));
    TRUE(t.c_cc[VINTR] == 3 && t.c_cc[VEOF] == 4);
    struct winsize size = {.ws_row = 24, .ws_col = 80}, seen = {0};
    SHOW(ioctl(master, TIOCSWINSZ, &size));
    SHOW(ioctl(slave, TIOCGWINSZ, &seen));
    say("%d x %d", seen.ws_col, seen.ws_row);
    u = t;
    cfmakeraw(&u);
    SHOW(tcsetattr(slave, TCSANOW, &u));
    write(master, "r", 1);
    char byte = 0;
    SHOW(read(slave, &byte, 1));
    write(slave, "raw\n", 4);
    expect("raw", 4);
    SHOW(tcsetattr(slave, TCSAFLUSH, &t));
    write(slave, "cooked\n", 7);
    expect("cooked", 8);
    SHOW(tcgetattr(0x7fffffff, &t));
    int p[2];
    NEED(pipe(p));
    SHOW(isatty(p[0]));
    TRUE(errno == ENOTTY);
    SHOW(ioctl(p[0], TIOCGWINSZ, &seen));
    char name[64] = "";
    CODE(ttyname_r(slave, name, sizeof name));
    TRUE(!strcmp(name, slave_name));
    struct stat a;
    SHOW(stat(slave_name, &a));
    TRUE(S_ISCHR(a.st_mode) && !strncmp(slave_name, "/dev/pts/", 9));
    close(slave);
}

static void jobs(void)
{
    /* A shell's work: a group in front, a reader in the background. */
    pid_t shell = NEED(fork());
    if (!shell) {
        setsid();
        int fd = open(slave_name, O_RDWR);
        signal(SIGTTOU, SIG_IGN);
        signal(SIGINT, SIG_DFL); /* ignored in what a script started with & */
        int status;
        pid_t job = fork();
        if (!job) {
            setpgid(0, 0);
            signal(SIGTTOU, SIG_DFL);
            char byte;
            read(fd, &byte, 1); /* in the background: SIGTTIN */
            _exit(3);
        }
        setpgid(job, job);
        waitpid(job, &status, WUNTRACED);
        outcome("background reader", status);
        TRUE(tcsetpgrp(fd, job) == 0 && tcgetpgrp(fd) == job);
        kill(-job, SIGCONT);
        write(master, "line\n", 5);
        waitpid(job, &status, WUNTRACED);
        outcome("in front", status);
        TRUE(tcsetpgrp(fd, getpgrp()) == 0);
        SHOW(tcsetpgrp(fd, 99999999));
        job = fork();
        if (!job) {
            setpgid(0, 0);
            tcsetpgrp(fd, getpid());
            for (;;)
                pause();
        }
        setpgid(job, job);
        tcsetpgrp(fd, job);
        write(master, "\003", 1);
        waitpid(job, &status, WUNTRACED);
        outcome("^C", status);
        job = fork();
        if (!job) {
            setpgid(0, 0);
            tcsetpgrp(fd, getpid());
            for (;;)
                pause();
        }
        setpgid(job, job);
        tcsetpgrp(fd, job);
        write(master, "\032", 1);
        waitpid(job, &status, WUNTRACED);
        outcome("^Z", status);
        kill(-job, SIGKILL);
        waitpid(job, &status, 0);
        outcome("then", status);
        _exit(0);
    }
    reap("shell", shell);
}

int main(void)
{
    master = NEED(posix_openpt(O_RDWR | O_NOCTTY));
    SHOW(grantpt(master));
    SHOW(unlockpt(master));
    snprintf(slave_name, sizeof slave_name, "%s", ptsname(master));
    modes();
    /* A slave of our own: without one, reading before the child opens it is an error. */
    int slave = NEED(open(slave_name, O_RDWR | O_NOCTTY));
    pid_t child = NEED(fork());
    if (!child) {
        close(slave);
        close(master);
        on_terminal();
    }
    expect("start", strlen("tty 1 1 session 1 group 1\r\n"));
    write(master, "hello\n", 6);
    expect("line", strlen("hello\r\n6 bytes\r\n"));
    write(master, "hez\177llo\n", 8);
    expect("erased", strlen("hez\b \bllo\r\n6 bytes\r\n"));
    struct termios quiet; /* the echo of ^C and the handler's text may come in either order,
                             * and a flush may drop the text */
    tcgetattr(slave, &quiet);
    quiet.c_lflag &= ~ECHO;
    quiet.c_lflag |= NOFLSH;
    tcsetattr(slave, TCSANOW, &quiet);
    write(master, "\003", 1);
    expect("^C", strlen("got SIGINT\r\ninterrupted\r\n"));
    write(master, "\034", 1);
    expect("^\\", strlen("got SIGQUIT\r\ninterrupted\r\n"));
    write(master, "\004", 1);
    expect("^D", strlen("end of file\r\n"));
    struct winsize size = {.ws_row = 50, .ws_col = 132};
    ioctl(master, TIOCSWINSZ, &size);
    expect("resized", strlen("got SIGWINCH\r\ninterrupted\r\n"));
    close(slave);
    close(master); /* hangs up */
    reap("hung up", child);
    master = NEED(posix_openpt(O_RDWR | O_NOCTTY));
    NEED(unlockpt(master));
    snprintf(slave_name, sizeof slave_name, "%s", ptsname(master));
    jobs();
    return 0;
}
