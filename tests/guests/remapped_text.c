/* A program's own text, mapped and unmapped again and again: nothing of it may pile up. */
#include "guest.h"
#include <elf.h>
#include <sys/mman.h>

enum { ROUNDS = 4000, AT_ONCE = 100 };

static int self;
static off_t text_offset;
static size_t text_size;

static void find_text(void)
{
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    self = NEED(open("/proc/self/exe", O_RDONLY));
    NEED(pread(self, &header, sizeof header, 0));
    for (int i = 0; i < header.e_phnum; i++) {
        NEED(pread(self, &segment, sizeof segment, header.e_phoff + i * sizeof segment));
        if (segment.p_type == PT_LOAD && segment.p_flags & PF_X) {
            text_offset = segment.p_offset & -(off_t)sysconf(_SC_PAGESIZE);
            text_size = segment.p_filesz + (segment.p_offset - text_offset);
        }
    }
}

static void *map_text(void)
{
    return mmap(NULL, text_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, text_offset);
}

static void one_by_one(void)
{
    int failed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        void *at = map_text();
        failed += at == MAP_FAILED || munmap(at, text_size);
    }
    printf("%d rounds, %d failed\n", ROUNDS, failed);
}

static void many_at_once(void)
{
    void *at[AT_ONCE];
    int failed = 0;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < AT_ONCE; i++)
            failed += (at[i] = map_text()) == MAP_FAILED;
        for (int i = 0; i < AT_ONCE; i++)
            failed += at[i] == MAP_FAILED || munmap(at[i], text_size);
        void *hole = mmap(NULL, 4096 * (round + 1), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        failed += hole == MAP_FAILED; /* the next ones lie elsewhere */
    }
    printf("%d at once, %d failed\n", AT_ONCE, failed);
}

int main(void)
{
    find_text();
    one_by_one();
    many_at_once();
    printf("still %s\n", getpid() > 0 ? "running" : "lost");
    return 0;
}
