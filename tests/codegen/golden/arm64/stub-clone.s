op_clone:
     0  mov x27, x5
     4  cbnz x1, clone_twice
     8  ldr w9, [x25, #4]
     c  tst w9, #8
    10  mov x9, #-1
    14  mov x21, x9
    18  b.eq clone_plain
    1c  ldr w21, [x28, #0x240]
    20  ldr w22, [x28, #0x248]
clone_plain:
     0  mov x9, x3
     4  mov x3, x4
     8  mov x4, x9
     c  mov x8, #0xdc
    10  svc #0
    14  cbnz x0, op_done
    18  tbnz w21, #0x1f, slot_mapped
    1c  mov x0, x27
    20  mov x1, #0x20000
    24  mov x2, #3
    28  mov x3, #0x11
    2c  mov x4, x22
    30  mov x5, xzr
    34  mov x8, #0xde
    38  svc #0
    3c  cmp x0, x27
    40  b.eq slot_good
    44  brk #1
slot_good:
     0  mov x0, x22
     4  mov x8, #0x39
     8  svc #0
slot_mapped:
     0  mov x28, x27
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
    40  add x9, x28, #3, lsl #12
    44  add x9, x9, #0xe00
    48  mov sp, x9
    4c  tbnz w21, #0x1f, unlimited.2
    50  adr x0, thread_table
    54  mov x1, #0x8000
    58  mov x2, #3
    5c  mov x3, #0x32
    60  mov x4, #-1
    64  mov x5, xzr
    68  mov x8, #0xde
    6c  svc #0
    70  ldr x9, [x28, #0x318]
    74  cbz x9, unlimited.1
    78  mov x0, xzr
    7c  mov x1, #7
    80  add x2, x28, #0x310
    84  mov x3, xzr
    88  mov x8, #0x105
    8c  svc #0
unlimited.1:
     0  mov x0, x21
     4  mov x1, #0x3fe
     8  mov x2, xzr
     c  mov x8, #0x18
    10  svc #0
    14  mov x0, x21
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
    14  str x10, [x28, #0x40]
    18  ldr x10, [x28, #0x140]
    1c  str w10, [x9]
no_tid:
     0  str xzr, [x28, #0x40]
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
     4  ldr w21, [x28, #0x2f8]
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
