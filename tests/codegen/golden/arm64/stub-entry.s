entry:
     0  stp x15, x16, [sp, #-0x10]
     4  mrs x17, tpidr_el0
     8  eor x16, x17, x17, lsr #16
     c  ubfx x16, x16, #4, #0xb
    10  adr x15, thread_table
    14  add x15, x15, x16, lsl #4
    18  ldp x16, x15, [x15]
    1c  sub x16, x16, x17
    20  cbnz x16, misses
    24  cbz x15, misses
    28  mov x17, x15
entry_found:
     0  ldp x15, x16, [sp, #-0x10]
     4  stp x15, x16, [x17, #0x58]
     8  ldp x15, x16, [sp, #-0x20]
     c  stp x15, x16, [x17, #0x48]
    10  str x30, [x17, #0x68]
entry_saved:
     0  ldr x16, [x17, #0x178]
     4  add x16, x16, #1
     8  str x16, [x17, #0x178]
     c  lsr w16, w8, #9
    10  cbnz w16, slow
    14  adr x16, dispatch_table
    18  ldr x16, [x16, w8, uxtw #3]
    1c  br x16
fd0:
     0  lsr w16, w0, #0xc
     4  cbnz w16, slow
     8  ldr x16, [x17, #0x108]
     c  ldrb w16, [x16, w0, uxtw]
    10  cbnz w16, slow
native:
     0  str x0, [x17, #0x78]
     4  str x8, [x17, #0xf0]
native_check:
     0  ldr w16, [x17, #0x114]
     4  cbnz w16, trap_before
native_call:
     0  svc #0
     4  add x16, x0, #5
     8  lsr x16, x16, #1
     c  cbz x16, trap_interrupted
exit_check:
     0  ldr w16, [x17, #0x114]
     4  cbnz w16, trap_after
     8  ldp x15, x16, [x17, #0x58]
     c  mov x30, x17
    10  ldr x17, [x17, #0x68]
exit_jump:
     0  br x17
fd01:
     0  lsr w16, w0, #0xc
     4  cbnz w16, slow
     8  ldr x16, [x17, #0x108]
     c  ldrb w16, [x16, w0, uxtw]
    10  cbnz w16, slow
    14  lsr w16, w1, #0xc
    18  cbnz w16, slow
    1c  ldr x16, [x17, #0x108]
    20  ldrb w16, [x16, w1, uxtw]
    24  cbnz w16, slow
    28  b native
fd02:
     0  lsr w16, w0, #0xc
     4  cbnz w16, slow
     8  ldr x16, [x17, #0x108]
     c  ldrb w16, [x16, w0, uxtw]
    10  cbnz w16, slow
    14  lsr w16, w2, #0xc
    18  cbnz w16, slow
    1c  ldr x16, [x17, #0x108]
    20  ldrb w16, [x16, w2, uxtw]
    24  cbnz w16, slow
    28  b native
if_fifth_null:
     0  cbnz x4, slow
     4  b fd0
if_second_null:
     0  cbnz x1, slow
     4  b fd0
if_fourth_null:
     0  cbnz x3, slow
     4  b native
if_sixth_null:
     0  cbnz x5, slow
     4  b native
fd0_sockopt:
     0  sub w16, w1, #1
     4  cbz w16, slow
     8  sub w16, w1, #0x29
     c  cbnz w16, sockopt_other
    10  sub w16, w2, #0x1a
    14  cbz w16, slow
sockopt_other:
     0  b fd0
futex:
     0  and w15, w1, #0x7f
     4  sub w16, w15, #6
     8  cbz w16, slow
     c  sub w16, w15, #7
    10  cbz w16, slow
    14  sub w16, w15, #8
    18  cbz w16, slow
    1c  sub w16, w15, #0xb
    20  cbz w16, slow
    24  sub w16, w15, #0xc
    28  cbz w16, slow
    2c  sub w16, w15, #0xd
    30  cbz w16, slow
    34  b native
mprotect:
     0  tbnz w2, #2, slow
mem:
     0  lsr x16, x0, #0x20
     4  mov x15, #0x6801
     8  sub x15, x15, x16
     c  sub x15, x15, #1
    10  tbnz x15, #0x3f, outside.1
    14  add x16, x0, x1
    18  orr x15, x16, x1
    1c  tbnz x15, #0x3f, slow
    20  lsr x16, x16, #0x20
    24  mov x15, #0x6800
    28  sub x16, x16, x15
    2c  tbz x16, #0x3f, slow
outside.1:
     0  b native
mremap:
     0  tbnz w3, #1, slow
     4  b mem
mmap:
     0  tbnz w2, #2, slow
     4  tbnz w3, #0x14, slow
     8  tbz w3, #4, outside.2
     c  lsr x16, x0, #0x20
    10  mov x15, #0x6801
    14  sub x15, x15, x16
    18  sub x15, x15, #1
    1c  tbnz x15, #0x3f, outside.2
    20  add x16, x0, x1
    24  orr x15, x16, x1
    28  tbnz x15, #0x3f, slow
    2c  lsr x16, x16, #0x20
    30  mov x15, #0x6800
    34  sub x16, x16, x15
    38  tbz x16, #0x3f, slow
outside.2:
mmap_movable:
     0  tbnz w3, #5, mmap_anonymous
     4  lsr w16, w4, #0xc
     8  cbnz w16, slow
     c  ldr x16, [x17, #0x108]
    10  ldrb w16, [x16, w4, uxtw]
    14  cbnz w16, slow
mmap_anonymous:
     0  b native
ioctl:
     0  lsr w16, w0, #0xc
     4  cbnz w16, slow
     8  ldr x16, [x17, #0x108]
     c  ldrb w16, [x16, w0, uxtw]
    10  cbnz w16, slow
    14  lsr w16, w1, #8
    18  sub w16, w16, #0x54
    1c  cbnz w16, slow
    20  mov x15, #0x540e
    24  sub w16, w1, w15
    28  cbz w16, slow
    2c  mov x15, #0x540f
    30  sub w16, w1, w15
    34  cbz w16, slow
    38  mov x15, #0x5410
    3c  sub w16, w1, w15
    40  cbz w16, slow
    44  mov x15, #0x5412
    48  sub w16, w1, w15
    4c  cbz w16, slow
    50  mov x15, #0x541c
    54  sub w16, w1, w15
    58  cbz w16, slow
    5c  mov x15, #0x5422
    60  sub w16, w1, w15
    64  cbz w16, slow
    68  mov x15, #0x5429
    6c  sub w16, w1, w15
    70  cbz w16, slow
    74  mov x15, #0x5441
    78  sub w16, w1, w15
    7c  cbz w16, slow
    80  b native
fcntl:
     0  lsr w16, w0, #0xc
     4  cbnz w16, slow
     8  ldr x16, [x17, #0x108]
     c  ldrb w16, [x16, w0, uxtw]
    10  cbnz w16, slow
    14  sub w16, w1, #5
    18  tbz w16, #0x1f, fcntl_more
    1c  tbz w1, #0x1f, native
fcntl_more:
     0  sub w16, w1, #6
     4  cbz w16, native
     8  sub w16, w1, #7
     c  cbz w16, native
    10  sub w16, w1, #0x24
    14  cbz w16, native
    18  sub w16, w1, #0x25
    1c  cbz w16, native
    20  sub w16, w1, #0x26
    24  cbz w16, native
    28  sub w16, w1, #0x406
    2c  cbz w16, native
    30  sub w16, w1, #0x407
    34  cbz w16, native
    38  sub w16, w1, #0x408
    3c  cbz w16, native
    40  sub w16, w1, #0x409
    44  cbz w16, native
    48  sub w16, w1, #0x40a
    4c  cbz w16, native
    50  b slow
newfstatat:
     0  mov x16, #0x1000
     4  sub w16, w16, w3
     8  cbnz w16, slow
     c  adr x16, newfstatat_named
    10  str x16, [x17, #0x40]
    14  ldrb w16, [x1]
    18  cbnz w16, newfstatat_named
    1c  str xzr, [x17, #0x40]
    20  add x16, x17, #3, lsl #12
    24  add x16, x16, #0xe00
    28  stp x0, x1, [x16]
    2c  stp x2, x3, [x16, #0x10]
    30  stp x4, x5, [x16, #0x20]
    34  stp x6, x7, [x16, #0x30]
    38  stp x8, x9, [x16, #0x40]
    3c  stp x10, x11, [x16, #0x50]
    40  stp x12, x13, [x16, #0x60]
    44  stp x18, x19, [x16, #0x90]
    48  stp x20, x21, [x16, #0xa0]
    4c  stp x22, x23, [x16, #0xb0]
    50  stp x24, x25, [x16, #0xc0]
    54  stp x26, x27, [x16, #0xd0]
    58  stp x28, x29, [x16, #0xe0]
    5c  str x14, [x16, #0x70]
    60  mov x28, x17
    64  ldp x9, x10, [x28, #0x58]
    68  stp x9, x10, [x16, #0x78]
    6c  ldp x9, x10, [x28, #0x48]
    70  str x9, [x16, #0x88]
    74  mov x9, sp
    78  stp x10, x9, [x16, #0xf0]
    7c  mrs x9, nzcv
    80  str x9, [x16, #0x100]
    84  mov x8, #0x50
    88  mov x1, x2
    8c  b slow_saved
newfstatat_named:
     0  str xzr, [x17, #0x40]
     4  b slow
wait4:
     0  ldr w15, [x17, #0x330]
     4  cbz w15, slow
     8  mov x16, #0xfff5
     c  movk x16, #0xffff, lsl #16
    10  and w16, w16, w2
    14  cbnz w16, slow
    18  sub w16, w0, w15
    1c  cbz w16, wait4_watched
    20  add w16, w0, #1
    24  cbnz w16, slow
wait4_watched:
     0  add x16, x17, #3, lsl #12
     4  add x16, x16, #0xe00
     8  stp x0, x1, [x16]
     c  stp x2, x3, [x16, #0x10]
    10  stp x4, x5, [x16, #0x20]
    14  stp x6, x7, [x16, #0x30]
    18  stp x8, x9, [x16, #0x40]
    1c  stp x10, x11, [x16, #0x50]
    20  stp x12, x13, [x16, #0x60]
    24  stp x18, x19, [x16, #0x90]
    28  stp x20, x21, [x16, #0xa0]
    2c  stp x22, x23, [x16, #0xb0]
    30  stp x24, x25, [x16, #0xc0]
    34  stp x26, x27, [x16, #0xd0]
    38  stp x28, x29, [x16, #0xe0]
    3c  str x14, [x16, #0x70]
    40  mov x28, x17
    44  ldp x9, x10, [x28, #0x58]
    48  stp x9, x10, [x16, #0x78]
    4c  ldp x9, x10, [x28, #0x48]
    50  str x9, [x16, #0x88]
    54  mov x9, sp
    58  stp x10, x9, [x16, #0xf0]
    5c  mrs x9, nzcv
    60  str x9, [x16, #0x100]
    64  add x0, x28, #0x338
    68  mov x1, #1
    6c  mov x2, xzr
    70  mov x3, xzr
    74  mov x4, xzr
    78  mov x8, #0x49
watch_check:
     0  ldr w9, [x28, #0x114]
     4  cbnz w9, watch_over
watch_call:
     0  svc #0
watch_over:
     0  add x16, x28, #3, lsl #12
     4  add x16, x16, #0xe00
     8  ldp x0, x1, [x16]
     c  ldp x2, x3, [x16, #0x10]
    10  ldp x4, x5, [x16, #0x20]
    14  mov x8, #0x104
    18  b slow_saved
getpid:
     0  ldr x0, [x17, #0x148]
     4  b exit_check
gettid:
     0  ldr x0, [x17, #0x140]
     4  b exit_check
getppid:
     0  ldr x0, [x17, #0x150]
     4  b exit_check
getuid:
     0  ldr x0, [x17, #0x158]
     4  b exit_check
geteuid:
     0  ldr x0, [x17, #0x160]
     4  b exit_check
getgid:
     0  ldr x0, [x17, #0x168]
     4  b exit_check
getegid:
     0  ldr x0, [x17, #0x170]
     4  b exit_check
set_tid_address:
     0  svc #0
     4  ldr x0, [x17, #0x140]
     8  b exit_check
set_robust_list:
     0  sub x16, x1, #0x18
     4  cbnz x16, native
     8  str x0, [x17, #0x300]
     c  mov x0, xzr
    10  b exit_check
exit:
     0  mov x28, x17
     4  add x9, x28, #3, lsl #12
     8  add x9, x9, #0xe00
     c  mov sp, x9
    10  str x0, [x28, #0x10]
    14  mov w8, w8
    18  str x8, [x28, #0xf0]
    1c  bl forget_key
    20  ldr x9, [x28, #0x300]
    24  cbz x9, no_list
    28  adr x10, no_list
    2c  str x10, [x28, #0x40]
    30  ldr x10, [x9]
    34  cmp x10, x9
    38  b.ne exit_ask
    3c  ldr x10, [x9, #0x10]
    40  cbnz x10, exit_ask
no_list:
     0  cmp x8, #0x5e
     4  b.ne exit_announce
     8  ldr w9, [x28, #0x308]
     c  cbnz w9, exit_ask
    10  str xzr, [x28, #0x40]
    14  str x8, [x28, #8]
    18  mov x9, #1
    1c  stlr w9, [x28]
    20  svc #0
    24  brk #1
exit_ask:
     0  str xzr, [x28, #0x40]
     4  str x8, [x28, #0x18]
     8  mov x9, #4
     c  movk x9, #1, lsl #32
    10  str x9, [x28, #8]
    14  b post
exit_announce:
     0  str xzr, [x28, #0x40]
     4  str x8, [x28, #8]
     8  bl announce
     c  ldr x0, [x28, #0x10]
    10  ldr x8, [x28, #0xf0]
    14  svc #0
    18  brk #1
