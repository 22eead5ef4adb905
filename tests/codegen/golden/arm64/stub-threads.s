set_tls:
     0  stp x15, x16, [sp, #-0x10]
     4  mrs x17, tpidr_el0
     8  eor x16, x17, x17, lsr #16
     c  ubfx x16, x16, #4, #0xb
    10  adr x15, thread_table
    14  add x15, x15, x16, lsl #4
    18  ldp x16, x15, [x15]
    1c  sub x16, x16, x17
    20  cbnz x16, set_tls_miss
    24  cbz x15, set_tls_miss
    28  mov x17, x15
set_tls_found:
     0  ldp x15, x16, [sp, #-0x10]
     4  stp x15, x16, [x17, #0x58]
     8  ldp x15, x16, [sp, #-0x20]
     c  stp x15, x16, [x17, #0x48]
    10  str x30, [x17, #0x68]
set_tls_saved:
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
    64  ldr x9, [x28, #0x68]
    68  ldr w9, [x9, #8]
    6c  mov x10, xzr
    70  cmp x9, #0x1f
    74  b.eq tls_value
    78  ldr x10, [x16, x9, lsl #3]
tls_value:
     0  add x9, x28, #3, lsl #12
     4  add x9, x9, #0xe00
     8  mov sp, x9
     c  str x10, [sp, #-0x10]!
    10  bl forget_key
    14  ldr x10, [sp], #0x10
    18  msr tpidr_el0, x10
    1c  bl misses_end
    20  add x16, x28, #3, lsl #12
    24  add x16, x16, #0xe00
    28  ldr x0, [x16]
    2c  b resume
misses:
entry_miss:
     0  stp x0, x1, [sp, #-0x30]
     4  stur x8, [sp, #-0x38]
     8  stur xzr, [sp, #-0x60]
     c  mov x0, xzr
    10  sub x1, sp, #0x60
    14  mov x8, #0x84
    18  svc #0
    1c  ldur x17, [sp, #-0x60]
    20  sub x17, x17, #0x14, lsl #12
    24  ldp x0, x1, [sp, #-0x30]
    28  ldur x8, [sp, #-0x38]
    2c  b entry_found
set_tls_miss:
     0  stp x0, x1, [sp, #-0x30]
     4  stur x8, [sp, #-0x38]
     8  stur xzr, [sp, #-0x60]
     c  mov x0, xzr
    10  sub x1, sp, #0x60
    14  mov x8, #0x84
    18  svc #0
    1c  ldur x17, [sp, #-0x60]
    20  sub x17, x17, #0x14, lsl #12
    24  ldp x0, x1, [sp, #-0x30]
    28  ldur x8, [sp, #-0x38]
    2c  b set_tls_found
misses_end:
learn_key:
     0  str xzr, [x28, #0x70]
     4  cbz x10, key_out
     8  eor x11, x10, x10, lsr #16
     c  ubfx x11, x11, #4, #0xb
    10  adr x12, thread_table
    14  add x12, x12, x11, lsl #4
key_claim:
     0  ldaxp x13, x14, [x12]
     4  cbnz x13, key_taken
     8  stlxp w14, x10, x28, [x12]
     c  cbnz w14, key_claim
    10  str x10, [x28, #0x70]
    14  ret
key_taken:
     0  cmp x13, x10
     4  b.ne key_other
     8  stlxp w14, x10, xzr, [x12]
     c  cbnz w14, key_claim
    10  ret
key_other:
     0  clrex
key_out:
     0  ret
forget_key:
     0  ldr x10, [x28, #0x70]
     4  cbz x10, key_out
     8  str xzr, [x28, #0x70]
     c  eor x11, x10, x10, lsr #16
    10  ubfx x11, x11, #4, #0xb
    14  adr x12, thread_table
    18  add x12, x12, x11, lsl #4
    1c  ldr x13, [x12, #8]
    20  cmp x13, x28
    24  b.eq key_mine
    28  ret
key_mine:
     0  str xzr, [x12, #8]
     4  dmb ish
     8  str xzr, [x12]
     c  ret
