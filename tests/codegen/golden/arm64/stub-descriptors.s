op_recv_fds:
     0  mov x19, x0
     4  mov x20, x1
     8  mov x21, x2
     c  sub sp, sp, #0x80
recv_again:
     0  ldr x9, [x28, #0x2d0]
     4  cbnz x9, recv_mail
     8  stp xzr, xzr, [sp]
     c  str xzr, [sp, #0x30]
    10  add x9, sp, #0x38
    14  mov x10, #1
    18  stp x9, x10, [sp, #0x10]
    1c  add x9, sp, #0x60
    20  str x9, [sp, #0x20]
    24  add x9, sp, #0x48
    28  mov x10, #0x10
    2c  stp x9, x10, [sp, #0x38]
    30  mov x9, #0x18
    34  str x9, [sp, #0x28]
    38  mov x0, #0x3fe
    3c  mov x1, sp
    40  orr x2, x20, #0x40
    44  mov x8, #0xd4
    48  svc #0
    4c  cmn x0, #0xb
    50  b.eq recv_yield
    54  tbnz x0, #0x3f, recv_out
    58  ldr w9, [sp, #0x30]
    5c  tbnz w9, #3, recv_none
    60  ldr x22, [sp, #0x48]
    64  cmp x22, x28
    68  b.ne recv_deliver
    6c  ldr x0, [sp, #0x70]
    70  ldr x10, [sp, #0x50]
    74  b recv_got
recv_mail:
     0  ldr x0, [x28, #0x2d8]
     4  ldr x10, [x28, #0x2d0]
     8  str x0, [sp, #0x70]
     c  mov x9, #0x18
    10  str x9, [sp, #0x60]
    14  str xzr, [x28, #0x2d0]
recv_got:
     0  ldr x9, [x25, #0x28]
     4  cmn x9, #1
     8  b.eq recv_take
     c  ubfx x10, x10, #1, #0x3e
    10  cmp x10, x9
    14  b.ne recv_stale
recv_take:
     0  lsr x9, x0, #0x20
     4  mov w0, w0
     8  cmp x19, #1
     c  b.eq recv_one
    10  ldrb w10, [x25, #1]
    14  add w10, w10, #1
    18  and w10, w10, #0xf
    1c  add x11, x28, #0x240
    20  str x9, [x11, x10, lsl #3]
    24  b recv_out
recv_one:
     0  lsr x9, x0, #0xc
     4  cbnz x9, recv_out
recv_flag:
     0  ldr x9, [x28, #0x108]
     4  strb w21, [x9, x0]
     8  b recv_out
recv_none:
     0  mov x0, #-0x18
recv_out:
     0  add sp, sp, #0x80
     4  b op_done
recv_yield:
     0  mov x8, #0x7c
     4  svc #0
     8  b recv_again
recv_stale:
     0  ldr w0, [sp, #0x70]
     4  mov x8, #0x39
     8  svc #0
     c  ldr x9, [sp, #0x60]
    10  cmp x9, #0x18
    14  b.ne one_received.1
    18  ldr w0, [sp, #0x74]
    1c  mov x8, #0x39
    20  svc #0
one_received.1:
     0  b recv_again
recv_deliver:
     0  ldr x9, [sp, #0x60]
     4  cmp x9, #0x18
     8  b.eq two_for_sibling
     c  mov x9, #-1
    10  str w9, [sp, #0x74]
two_for_sibling:
     0  ldr x9, [x22, #0x2d0]
     4  cbz x9, mailbox_empty
     8  ldr w0, [x22, #0x2d8]
     c  mov x8, #0x39
    10  svc #0
    14  ldr w0, [x22, #0x2dc]
    18  mov x8, #0x39
    1c  svc #0
mailbox_empty:
     0  ldr w0, [sp, #0x70]
     4  mov x1, #2
     8  ldr x2, [sp, #0x50]
     c  and x2, x2, #1
    10  mov x8, #0x19
    14  svc #0
    18  ldr w0, [sp, #0x74]
    1c  mov x1, #2
    20  ldr x2, [sp, #0x50]
    24  and x2, x2, #1
    28  mov x8, #0x19
    2c  svc #0
    30  ldr x9, [sp, #0x70]
    34  str x9, [x22, #0x2d8]
    38  ldr x9, [sp, #0x50]
    3c  orr x9, x9, #0x8000000000000000
    40  dmb ish
    44  str x9, [x22, #0x2d0]
    48  b recv_again
op_send_fd:
     0  mov x23, x0
     4  sub sp, sp, #0x80
     8  stp xzr, xzr, [sp]
     c  str xzr, [sp, #0x30]
    10  add x9, sp, #0x38
    14  mov x10, #1
    18  stp x9, x10, [sp, #0x10]
    1c  add x9, sp, #0x60
    20  str x9, [sp, #0x20]
    24  add x9, sp, #0x48
    28  mov x10, #0x10
    2c  stp x9, x10, [sp, #0x38]
    30  mov x9, #0x18
    34  str x9, [sp, #0x28]
    38  stp x28, xzr, [sp, #0x48]
    3c  mov x9, #0x14
    40  str x9, [sp, #0x60]
    44  mov x9, #1
    48  str w9, [sp, #0x68]
    4c  str w9, [sp, #0x6c]
    50  str w23, [sp, #0x70]
    54  mov x0, #0x3fe
    58  mov x1, sp
    5c  mov x2, xzr
    60  mov x8, #0xd3
    64  svc #0
    68  add sp, sp, #0x80
    6c  b op_done
