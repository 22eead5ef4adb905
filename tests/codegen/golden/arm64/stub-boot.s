boot:
     0  mov x19, sp
     4  sub sp, sp, #0x100
boot_receive:
     0  stp xzr, xzr, [sp]
     4  str xzr, [sp, #0x30]
     8  add x9, sp, #0x38
     c  mov x10, #1
    10  stp x9, x10, [sp, #0x10]
    14  add x9, sp, #0x60
    18  str x9, [sp, #0x20]
    1c  add x9, sp, #0x48
    20  mov x10, #0x10
    24  stp x9, x10, [sp, #0x38]
    28  mov x9, #0x18
    2c  str x9, [sp, #0x28]
    30  mov x0, #0x3fe
    34  mov x1, sp
    38  mov x2, #0x40000000
    3c  mov x8, #0xd4
    40  svc #0
    44  cmn x0, #4
    48  b.eq boot_receive
    4c  cmp x0, #0x10
    50  b.ne boot_failed
    54  ldr x9, [sp, #0x50]
    58  tbnz x9, #0x3f, boot_message
    5c  ldr w0, [sp, #0x70]
    60  mov x8, #0x39
    64  svc #0
    68  ldr x9, [sp, #0x60]
    6c  cmp x9, #0x18
    70  b.ne one_received.2
    74  ldr w0, [sp, #0x74]
    78  mov x8, #0x39
    7c  svc #0
one_received.2:
     0  b boot_receive
boot_message:
     0  ldr x28, [sp, #0x48]
     4  ldr w20, [sp, #0x70]
     8  ldr w21, [sp, #0x74]
     c  mov x22, x28
    10  mov x0, x22
    14  mov x1, #0x20000
    18  mov x2, #3
    1c  mov x3, #0x11
    20  mov x4, x20
    24  mov x5, xzr
    28  mov x8, #0xde
    2c  svc #0
    30  tbnz x0, #0x3f, boot_failed
    34  mov x0, x20
    38  mov x8, #0x39
    3c  svc #0
    40  mov x22, #0x10000000
    44  movk x22, #0x6800, lsl #32
    48  mov x0, x22
    4c  mov x1, #0x1000
    50  mov x2, #3
    54  mov x3, #0x11
    58  mov x4, x21
    5c  mov x5, xzr
    60  mov x8, #0xde
    64  svc #0
    68  tbnz x0, #0x3f, boot_failed
    6c  mov x0, x21
    70  mov x8, #0x39
    74  svc #0
    78  mov x0, x28
    7c  mov x1, #0x20000
    80  mov x2, #0xa
    84  mov x8, #0xe9
    88  svc #0
    8c  add x0, x28, #0x2e0
    90  mov x1, xzr
    94  mov x8, #0x84
    98  svc #0
    9c  mov x0, #1
    a0  mov x1, #9
    a4  mov x8, #0xa7
    a8  svc #0
    ac  adr x0, thread_table
    b0  mov x1, #0x8000
    b4  mov x2, #3
    b8  mov x3, #0x32
    bc  mov x4, #-1
    c0  mov x5, xzr
    c4  mov x8, #0xde
    c8  svc #0
    cc  mov x0, #0xa0000
    d0  movk x0, #0x6800, lsl #32
    d4  mov x1, #0x20000
    d8  mov x2, #3
    dc  mov x3, #0x32
    e0  mov x4, #-1
    e4  mov x5, xzr
    e8  mov x8, #0xde
    ec  svc #0
    f0  adr x9, guest_sigreturn
    f4  mov x10, #0x1168
    f8  movk x10, #0xd280, lsl #16
    fc  mov x11, #1
   100  movk x11, #0xd400, lsl #16
   104  stp w10, w11, [x9]
   108  mov x0, #0xa0000
   10c  movk x0, #0x6800, lsl #32
   110  mov x1, #0x10000
   114  mov x2, #5
   118  mov x8, #0xe2
   11c  svc #0
   120  mov x0, #0xb0000
   124  movk x0, #0x6800, lsl #32
   128  mov x1, #0x10000
   12c  mov x2, #1
   130  mov x8, #0xe2
   134  svc #0
   138  adr x9, handler
   13c  mov x10, #4
   140  movk x10, #0xc00, lsl #16
   144  stp x9, x10, [sp]
   148  adr x9, restorer
   14c  mov x10, #-1
   150  stp x9, x10, [sp, #0x10]
   154  mov x20, #1
handlers:
     0  cmp x20, #9
     4  b.eq handler_skip
     8  cmp x20, #0x11
     c  b.eq handler_skip
    10  cmp x20, #0x12
    14  b.eq handler_skip
    18  cmp x20, #0x13
    1c  b.eq handler_skip
    20  mov x0, x20
    24  mov x1, sp
    28  mov x2, xzr
    2c  mov x3, #8
    30  mov x8, #0x86
    34  svc #0
handler_skip:
     0  add x20, x20, #1
     4  cmp x20, #0x40
     8  b.ls handlers
     c  mov x9, #0x100000000
    10  str x9, [x28, #8]
    14  str x19, [x28, #0x10]
    18  ldr x9, [x19]
    1c  add x1, x19, x9, lsl #3
    20  add x1, x1, #0x10
boot_environment:
     0  ldr x10, [x1], #8
     4  cbnz x10, boot_environment
boot_auxiliary:
     0  ldr x10, [x1], #0x10
     4  cbnz x10, boot_auxiliary
     8  sub x2, x1, x19
     c  mov x1, x19
    10  add x0, x28, #4, lsl #12
    14  bl copy
    18  add x9, x28, #3, lsl #12
    1c  add x9, x9, #0xe00
    20  mov sp, x9
    24  b post
boot_failed:
     0  mov x0, #0x7f
     4  mov x8, #0x5e
     8  svc #0
     c  brk #1
publish:
     0  stlr w1, [x0]
     4  dmb ish
     8  ldr w0, [x2]
     c  ret
fence:
     0  dmb ish
     4  ret
