/* A plugin of qemu-user (plugin API version 1): counts the guest instructions of a process.
 *
 * usage: QEMU_PLUGIN=count.so,out=DIRECTORY qemu-aarch64 ...
 * The first 8 bytes of DIRECTORY/PID.N are the count so far; a mapping, so that it survives a
 * process that is killed. Where the file cannot be made (a confined guest's exec) nothing counts.
 * The declarations are those of qemu-plugin.h that are used; the header is in no package.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
enum { INLINE_ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

int qemu_plugin_version = 1;
static uint64_t *count;

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, count, qemu_plugin_tb_n_insns(block));
}

static int create(const char *directory)
{
    char path[512];
    for (int n = 0; n < 1000; n++) { /* an exec keeps the pid */
        snprintf(path, sizeof path, "%s/%d.%d", directory, (int)getpid(), n);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

int qemu_plugin_install(uint64_t id, const void *info, int arguments_count, char **arguments)
{
    (void)info;
    if (arguments_count != 1 || strncmp(arguments[0], "out=", 4))
        return -1;
    int fd = create(arguments[0] + 4);
    if (fd < 0)
        return 0;
    if (ftruncate(fd, 4096))
        return -1;
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (count == MAP_FAILED)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
