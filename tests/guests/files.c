/* Reading, writing, positions, descriptor numbers. */
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static void modes(void)
{
    int fd = OK(open("a", O_RDWR | O_CREAT | O_EXCL, 0644));
    SHOW(open("a", O_RDWR | O_CREAT | O_EXCL, 0644));
    SHOW(open("missing", O_RDONLY));
    SHOW(open("a/b", O_RDONLY));
    SHOW(open("", O_RDONLY));
    SHOW(open(".", O_WRONLY));
    SHOW(open("a", O_RDONLY | O_DIRECTORY));
    SHOW(write(fd, "hello world", 11));
    SHOW(lseek(fd, 0, SEEK_CUR));
    SHOW(lseek(fd, -5, SEEK_END));
    char text[32] = "";
    SHOW(read(fd, text, sizeof text));
    say("read \"%s\"", text);
    SHOW(read(fd, text, sizeof text));
    SHOW(lseek(fd, -100, SEEK_SET));
    SHOW(lseek(fd, 0, 99));
    SHOW(close(fd));
    SHOW(close(fd));
    SHOW(read(fd, text, 1));
    fd = NEED(open("a", O_RDONLY));
    SHOW(write(fd, "x", 1));
    close(fd);
    fd = NEED(open("a", O_WRONLY));
    SHOW(read(fd, text, 1));
    close(fd);
    fd = NEED(open("a", O_WRONLY | O_APPEND));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(write(fd, "!", 1));
    SHOW(lseek(fd, 0, SEEK_CUR));
    close(fd);
    cat("a");
    fd = NEED(open("a", O_WRONLY | O_TRUNC));
    SHOW(lseek(fd, 0, SEEK_END));
    close(fd);
}

static void positions(void)
{
    int fd = NEED(open("p", O_RDWR | O_CREAT | O_TRUNC, 0600));
    SHOW(pwrite(fd, "0123456789", 10, 5));
    SHOW(lseek(fd, 0, SEEK_CUR));
    char text[16] = "";
    SHOW(pread(fd, text, 4, 3));
    say("holes are zero: %d %d, then \"%s\"", text[0], text[1], text + 2);
    struct iovec out[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    SHOW(writev(fd, out, 3));
    SHOW(writev(fd, out, -1));
    SHOW(pwritev(fd, out, 3, 20));
    char x[3] = "", y[8] = "";
    struct iovec in[2] = {{x, 2}, {y, 7}};
    SHOW(preadv(fd, in, 2, 20));
    say("\"%s\" \"%s\"", x, y);
    SHOW(ftruncate(fd, 3));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(truncate("p", 100));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(truncate("missing", 1));
    SHOW(ftruncate(fd, -1));
    SHOW(fallocate(fd, 0, 0, 200));
    SHOW(lseek(fd, 0, SEEK_END));
    SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
    SHOW(fsync(fd));
    SHOW(fdatasync(fd));
    close(fd);
}

static void numbers(void)
{
    int first = NEED(open("n", O_RDWR | O_CREAT, 0600));
    int second = NEED(open("n", O_RDWR));
    TRUE(second == first + 1);
    close(first);
    TRUE(dup(second) == first);
    SHOW(dup2(second, 100));
    SHOW(dup2(100, 100));
    SHOW(dup2(99, 100));
    SHOW(dup3(second, second, 0));
    SHOW(dup3(second, 101, O_CLOEXEC));
    SHOW(fcntl(101, F_GETFD));
    SHOW(fcntl(100, F_GETFD));
    SHOW(fcntl(100, F_SETFD, FD_CLOEXEC));
    SHOW(fcntl(100, F_GETFD));
    SHOW(fcntl(second, F_DUPFD, 200));
    SHOW(fcntl(second, F_DUPFD_CLOEXEC, 200));
    SHOW(fcntl(201, F_GETFD));
    SHOW(fcntl(100, F_GETFL) & O_ACCMODE);
    SHOW(fcntl(100, F_SETFL, O_APPEND | O_NONBLOCK));
    TRUE((fcntl(second, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
    SHOW(fcntl(99, F_GETFD));
    write(second, "one", 3);
    write(100, "two", 3);
    SHOW(lseek(second, 0, SEEK_CUR));
    SHOW(dup2(second, -1));
    SHOW(syscall(SYS_close_range, 100, 300, 0));
    SHOW(fcntl(100, F_GETFD));
    SHOW(fcntl(201, F_GETFD));
    SHOW(fcntl(second, F_GETFD));
}

static void copies(void)
{
    put("from", "the quick brown fox");
    int in = NEED(open("from", O_RDONLY)), out = NEED(open("to", O_RDWR | O_CREAT, 0600));
    off_t at = 4;
    SHOW(sendfile(out, in, &at, 5));
    SHOW(at);
    loff_t from = 10, to = 5;
    SHOW(syscall(SYS_copy_file_range, in, &from, out, &to, 6, 0));
    cat("to");
}

int main(void)
{
    scratch();
    modes();
    positions();
    numbers();
    copies();
    return 0;
}
