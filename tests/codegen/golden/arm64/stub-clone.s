op_clone:
     0  mov x27, x5
     4  cbnz x1, clone_twice
     8  mov x9, x3
     c  mov x3, x4
    10  mov x4, x9
    14  mov x8, #0xdc
    18  svc #0
    1c  cbnz x0, op_done
    20  mov x28, x27
clone_child:
     0  mov x0, x28
     4  mov x1, #0x20000
     8  mov x2, #0xa
     c  mov x8, #0xe9
    10  svc #0
    14  add x0, x28, #0x2e0
    18  mov x1, xzr
    1c  mov x8, #0x84
    20  svc #0
    24  mov x0, #1
    28  mov x1, #9
    2c  mov x8, #0xa7
    30  svc #0
    34  mov x8, #0xb2
    38  svc #0
    3c  str w0, [x28, #0x118]
    40  add x9, x28, #0x13, lsl #12
    44  add x9, x9, #0xe00
    48  mov sp, x9
    4c  ldr w9, [x28, #0x2fc]
    50  cbz w9, unlimited.2
    54  adr x0, thread_table
    58  mov x1, #0x8000
    5c  mov x2, #3
    60  mov x3, #0x32
    64  mov x4, #-1
    68  mov x5, xzr
    6c  mov x8, #0xde
    70  svc #0
    74  ldr x9, [x28, #0x318]
    78  cbz x9, unlimited.1
    7c  mov x0, xzr
    80  mov x1, #7
    84  add x2, x28, #0x310
    88  mov x3, xzr
    8c  mov x8, #0x105
    90  svc #0
unlimited.1:
     0  ldr w0, [x28, #0x2f8]
     4  mov x1, #0x3fe
     8  mov x2, xzr
     c  mov x8, #0x18
    10  svc #0
    14  ldr w0, [x28, #0x2f8]
    18  mov x8, #0x39
    1c  svc #0
    20  ldr x9, [x28, #0x328]
    24  cbz x9, unlimited.2
    28  mov x0, xzr
    2c  mov x1, #7
    30  add x2, x28, #0x320
    34  mov x3, xzr
    38  mov x8, #0x105
    3c  svc #0
unlimited.2:
no_ctrl:
     0  mrs x10, tpidr_el0
     4  bl misses_end
     8  ldr x9, [x28, #0x230]
     c  cbz x9, no_tid
    10  adr x10, no_tid
    14  str x10, [x28, #0x110]
    18  ldr x10, [x28, #0x120]
    1c  str w10, [x9]
no_tid:
     0  str xzr, [x28, #0x110]
     4  mov x9, #0
     8  str w9, [x28]
     c  str xzr, [sp, #-0x10]!
    10  mov x0, #2
    14  mov x1, sp
    18  mov x2, xzr
    1c  mov x3, #8
    20  mov x8, #0x87
    24  svc #0
    28  add sp, sp, #0x10
    2c  mov x0, xzr
    30  b resume
clone_twice:
     0  mov x24, x4
     4  mov x23, x0
     8  mov x0, #0x11
     c  mov x1, xzr
    10  mov x2, xzr
    14  mov x3, xzr
    18  mov x4, xzr
    1c  mov x8, #0xdc
    20  svc #0
    24  cbz x0, clone_between
    28  tbnz x0, #0x3f, op_done
    2c  mov x22, x0
clone_reap:
     0  mov x0, x22
     4  mov x1, xzr
     8  mov x2, #0x40000000
     c  mov x3, xzr
    10  mov x8, #0x104
    14  svc #0
    18  cmn x0, #4
    1c  b.eq clone_reap
    20  ldrsw x0, [x27, #0x118]
    24  b op_done
clone_between:
     0  mov x0, #0x11
     4  mov x1, xzr
     8  mov x2, xzr
     c  mov x3, xzr
    10  mov x4, xzr
    14  mov x8, #0xdc
    18  svc #0
    1c  cbz x0, clone_waits
    20  str w0, [x27, #0x118]
    24  mov x0, xzr
    28  mov x8, #0x5e
    2c  svc #0
    30  brk #1
clone_waits:
     0  mov x28, x27
clone_adopted:
     0  mov x8, #0x7c
     4  svc #0
     8  mov x8, #0xad
     c  svc #0
    10  ldr x9, [x28, #0x80]
    14  cmp x0, x9
    18  b.ne clone_adopted
    1c  tbz w23, #0x13, clone_child
    20  msr tpidr_el0, x24
    24  b clone_child
