/* Directories: making, listing, the current one, names that are too long. */
#include "guest.h"
#include <dirent.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
    char *names[2048];
    size_t count = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        say("opendir %s: %s", path, errno_name(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) && count < 2048;) {
        char line[300];
        snprintf(line, sizeof line, "%s/%c", e->d_name,
                 e->d_type == DT_DIR ? 'd' : e->d_type == DT_REG ? 'f' : e->d_type == DT_LNK ? 'l' : '?');
        names[count++] = strdup(line);
    }
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    printf("%s:", path);
    for (size_t i = 0; i < count; i++)
        printf(" %s", names[i]);
    putchar('\n');
}

static void many(void)
{
    mkdir("many", 0755);
    char path[64];
    for (int i = 0; i < 1500; i++) {
        snprintf(path, sizeof path, "many/file-with-a-longish-name-%04d", i);
        put(path, "");
    }
    DIR *dir = opendir("many");
    int count = 0, sum = 0;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            count++;
            sum += atoi(e->d_name + strlen("file-with-a-longish-name-"));
        }
    say("%d entries, sum %d", count, sum);
    rewinddir(dir);
    int again = 0;
    while (readdir(dir))
        again++;
    say("%d after rewinding, with . and ..", again);
    rewinddir(dir);
    for (int i = 0; i < 700; i++)
        readdir(dir);
    long at = telldir(dir);
    struct dirent *e = readdir(dir);
    char name[256];
    snprintf(name, sizeof name, "%s", e->d_name);
    for (int i = 0; i < 100; i++)
        readdir(dir);
    seekdir(dir, at);
    e = readdir(dir);
    TRUE(e && !strcmp(name, e->d_name));
    rewinddir(dir);
    int removed = 0;
    while ((e = readdir(dir)))
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "many/%.50s", e->d_name);
            removed += !unlink(path);
        }
    closedir(dir);
    say("removed while reading: %d", removed);
    SHOW(rmdir("many"));
}

static void current(void)
{
    char path[PATH_MAX], base[PATH_MAX];
    TRUE(getcwd(base, sizeof base) != NULL);
    SHOW(mkdir("x", 0755));
    SHOW(mkdir("x/y", 0755));
    SHOW(chdir("x/y"));
    TRUE(getcwd(path, sizeof path) && !strncmp(path, base, strlen(base)));
    say("inside: %s", path + strlen(base));
    errno = 0;
    TRUE(!getcwd(path, 3) && errno == ERANGE);
    int here = NEED(open(".", O_RDONLY | O_DIRECTORY));
    SHOW(chdir(".."));
    SHOW(chdir("missing"));
    SHOW(fchdir(here));
    SHOW(chdir("../.."));
    TRUE(getcwd(path, sizeof path) && !strcmp(path, base));
    SHOW(fchdir(here));
    SHOW(rmdir("../y"));
    errno = 0;
    TRUE(!getcwd(path, sizeof path) && errno == ENOENT);
    SHOW(open("new", O_CREAT | O_WRONLY, 0600));
    SHOW(mkdir("new", 0700));
    SHOW(chdir(base));
    SHOW(rmdir("x"));
    SHOW(chdir("/../../.."));
    TRUE(getcwd(path, sizeof path) && !strcmp(path, "/"));
    SHOW(chdir(base));
    put("plain", "");
    SHOW(chdir("plain"));
    SHOW(fchdir(here + 50));
}

static void errors(void)
{
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("d", 0755));
    SHOW(mkdir("missing/d", 0755));
    SHOW(mkdir("plain/d", 0755));
    SHOW(mkdir("d/", 0755));
    SHOW(mkdir("e/", 0755));
    put("d/f", "x");
    SHOW(rmdir("d"));
    SHOW(rmdir("d/f"));
    SHOW(rmdir("missing"));
    SHOW(rmdir("d/."));
    SHOW(rmdir("d/.."));
    SHOW(unlink("e"));
    SHOW(unlink("missing"));
    SHOW(rename("d", "d/inside"));
    SHOW(rename("e", "d"));
    SHOW(rename("plain", "d"));
    SHOW(rename("d", "plain"));
    SHOW(rename("d", "moved"));
    list("moved");
    list("missing");
    list("plain");
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    SHOW(mkdir(name, 0755));
    SHOW(rmdir(name));
    name[255] = 'n';
    name[256] = 0;
    SHOW(mkdir(name, 0755));
    static char path[5000];
    memset(path, '/', sizeof path - 1);
    SHOW(open(path, O_RDONLY));
    SHOW(open("plain/", O_RDONLY));
    SHOW(open("plain/.", O_RDONLY));
    int dir = NEED(open("moved", O_RDONLY));
    char byte;
    SHOW(read(dir, &byte, 1));
    SHOW(write(dir, &byte, 1));
    SHOW(lseek(dir, 0, SEEK_SET));
    list(".");
}

int main(void)
{
    scratch();
    current();
    errors();
    many();
    return 0;
}
