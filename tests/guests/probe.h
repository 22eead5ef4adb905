/* What a program may do with a byte of memory. */
#include <setjmp.h>

static sigjmp_buf back;

static void jumps(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

/* Tell whether memory can be read ('r'), read and written ('w') or neither ('-'). */
static char probe(volatile char *address)
{
    volatile char can = '-';
    if (sigsetjmp(back, 1))
        return can;
    char byte = *address;
    can = 'r';
    *address = byte;
    return 'w';
}
