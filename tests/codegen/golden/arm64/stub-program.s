program:
     0  ldr x26, [x28, #0xd0]
     4  add x25, x28, #0x400
op_next:
     0  subs x26, x26, #1
     4  b.mi stub_broken
     8  ldp x0, x1, [x25, #0x10]
     c  ldp x2, x3, [x25, #0x20]
    10  ldp x4, x5, [x25, #0x30]
    14  ldrh w9, [x25, #2]
    18  cbz w9, literal.6
    1c  add x10, x28, #0x240
    20  tbz w9, #0, literal.1
    24  ldr x0, [x10, x0, lsl #3]
literal.1:
     0  tbz w9, #1, literal.2
     4  ldr x1, [x10, x1, lsl #3]
literal.2:
     0  tbz w9, #2, literal.3
     4  ldr x2, [x10, x2, lsl #3]
literal.3:
     0  tbz w9, #3, literal.4
     4  ldr x3, [x10, x3, lsl #3]
literal.4:
     0  tbz w9, #4, literal.5
     4  ldr x4, [x10, x4, lsl #3]
literal.5:
     0  tbz w9, #5, literal.6
     4  ldr x5, [x10, x5, lsl #3]
literal.6:
op_dispatch:
     0  ldrb w9, [x25]
     4  adr x10, op_table
     8  ldr x10, [x10, x9, lsl #3]
     c  br x10
op_done:
     0  ldrb w9, [x25, #1]
     4  and w9, w9, #0xf
     8  add x10, x28, #0x240
     c  str x0, [x10, x9, lsl #3]
    10  ldr w9, [x25, #4]
    14  tst w9, #4
    18  b.eq op_check
    1c  cmn x0, #4
    20  b.eq op_failed
op_check:
     0  tst w9, #1
     4  b.eq op_advance
     8  cmn x0, #0xfff
     c  b.hs op_failed
op_advance:
     0  add x25, x25, #0x40
     4  b op_next
op_failed:
     0  sub x25, x25, x28
     4  sub x25, x25, #0x400
     8  lsr x25, x25, #6
     c  str x25, [x28, #0x10]
    10  str x0, [x28, #0x18]
    14  mov x9, #3
    18  movk x9, #1, lsl #32
    1c  str x9, [x28, #8]
    20  b post
op_continue:
     0  mov x9, #2
     4  movk x9, #1, lsl #32
     8  str x9, [x28, #8]
     c  b post
op_end:
     0  b resume
op_hostcall:
     0  ldr x8, [x25, #8]
     4  ldr w9, [x25, #4]
     8  tst w9, #2
     c  b.eq hostcall_plain
hostcall_check:
     0  ldr w9, [x28, #0x114]
     4  cbnz w9, hostcall_interrupted
hostcall_call:
     0  svc #0
     4  b op_done
hostcall_plain:
     0  svc #0
     4  b op_done
hostcall_interrupted:
     0  mov x0, #-4
     4  b op_done
op_copy_out:
     0  adr x9, op_fault
     4  str x9, [x28, #0x40]
     8  add x9, x28, #4, lsl #12
     c  add x1, x1, x9
    10  bl copy
    14  b op_unguard
op_copy_in:
     0  adr x9, op_fault
     4  str x9, [x28, #0x40]
     8  add x9, x28, #4, lsl #12
     c  add x9, x1, x9
    10  mov x1, x0
    14  mov x0, x9
    18  bl copy
    1c  b op_unguard
op_cmpxchg32:
     0  adr x9, op_fault
     4  str x9, [x28, #0x40]
     8  mov x9, x0
cmpxchg_again:
     0  ldaxr w0, [x9]
     4  cmp w0, w1
     8  b.ne cmpxchg_other
     c  stlxr w10, w2, [x9]
    10  cbnz w10, cmpxchg_again
cmpxchg_other:
     0  clrex
     4  str xzr, [x28, #0x40]
     8  b op_done
op_store32:
     0  adr x9, op_fault
     4  str x9, [x28, #0x40]
     8  str w1, [x0]
op_unguard:
     0  str xzr, [x28, #0x40]
     4  mov x0, xzr
     8  b op_done
op_fault:
     0  str xzr, [x28, #0x40]
     4  mov x0, #-0xe
     8  b op_done
