copy:
copy_wide:
     0  cmp x2, #0x10
     4  b.lo copy_bytes.1
     8  ldp x9, x10, [x1], #0x10
     c  stp x9, x10, [x0], #0x10
    10  sub x2, x2, #0x10
    14  b copy
copy_bytes.1:
     0  cbz x2, copy_done
copy_one:
     0  ldrb w9, [x1], #1
     4  strb w9, [x0], #1
     8  subs x2, x2, #1
     c  b.ne copy_one
copy_done:
     0  ret
slow:
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
slow_saved:
     0  mov sp, x16
     4  mov w8, w8
     8  str x8, [x28, #8]
     c  str x0, [x28, #0x10]
    10  str x1, [x28, #0x18]
    14  str x2, [x28, #0x20]
    18  str x3, [x28, #0x28]
    1c  str x4, [x28, #0x30]
    20  str x5, [x28, #0x38]
    24  cmp x8, #0x200
    28  b.hs post
    2c  adr x19, marshal_table
    30  add x19, x19, x8, lsl #5
    34  ldr x9, [x19]
    38  cbz x9, post
    3c  add x21, x28, #4, lsl #12
    40  add x22, x21, #0x10, lsl #12
    44  mov x20, xzr
    48  adr x9, bad_address
    4c  str x9, [x28, #0x40]
marshal_next:
     0  ldrb w9, [x19, x20]
     4  cbz w9, marshal_skip
     8  add x1, x28, #0x10
     c  ldr x1, [x1, x20, lsl #3]
    10  add x10, x19, #8
    14  ldrh w23, [x10, x20, lsl #1]
    18  cmp w9, #2
    1c  b.eq copy_buffer
    20  cmp w9, #5
    24  b.eq copy_stat
    28  cmp w9, #6
    2c  b.eq copy_iovec
    30  cbz x1, copy_null
    34  cmp w9, #1
    38  b.eq copy_path
    3c  cmp w9, #4
    40  b.eq copy_vector
    44  mov x2, x23
    48  b copy_bytes.2
copied:
     0  sub x9, x0, x21
record:
     0  sub x10, x21, x28
     4  sub x10, x10, #4, lsl #12
     8  orr x10, x10, x9, lsl #32
     c  add x11, x28, #0x1c0
    10  str x10, [x11, x20, lsl #3]
    14  add x21, x0, #7
    18  and x21, x21, #0xfffffffffffffff8
marshal_skip:
     0  add x20, x20, #1
     4  cmp x20, #6
     8  b.ne marshal_next
     c  str xzr, [x28, #0x40]
    10  b post
copy_null:
     0  mov x9, #0xffff
     4  movk x9, #0xffff, lsl #16
     8  mov x0, x21
     c  b record
copy_buffer:
     0  and w9, w23, #7
     4  add x10, x28, #0x10
     8  ldr x2, [x10, x9, lsl #3]
     c  lsr w9, w23, #3
    10  mul x2, x2, x9
copy_bytes.2:
     0  sub x9, x22, x21
     4  cmp x2, x9
     8  csel x2, x9, x2, hi
     c  mov x0, x21
    10  bl copy
    14  b copied
copy_path:
     0  mov x0, x21
     4  add x10, x21, #1, lsl #12
path_byte:
     0  ldrb w9, [x1], #1
     4  strb w9, [x0]
     8  cbz w9, copied
     c  add x0, x0, #1
    10  cmp x0, x10
    14  b.ne path_byte
    18  str xzr, [x28, #0x40]
    1c  mov x0, #-0x24
    20  b resume
copy_stat:
     0  mov x0, x1
     4  mov x1, x21
     8  mov x8, #0x50
     c  svc #0
    10  cbz x0, stat_good
    14  str xzr, [x28, #0x40]
    18  b resume
stat_good:
     0  add x0, x21, #0x80
     4  b copied
copy_vector:
     0  mov x0, x21
     4  sub x12, x22, #0x40
vector_string:
     0  ldr x10, [x1], #8
     4  cbz x10, copied
vector_byte:
     0  cmp x0, x12
     4  b.hs vector_full
     8  ldrb w9, [x10], #1
     c  strb w9, [x0], #1
    10  cbnz w9, vector_byte
    14  b vector_string
vector_full:
     0  mov x9, #0xfffe
     4  movk x9, #0xffff, lsl #16
     8  mov x0, x21
     c  b record
copy_iovec:
     0  and w9, w23, #7
     4  add x10, x28, #0x10
     8  ldr x24, [x10, x9, lsl #3]
     c  mov x23, x1
    10  mov x0, x21
iovec_entry:
     0  cbz x24, copied
     4  ldp x1, x2, [x23], #0x10
     8  sub x9, x22, x0
     c  cmp x2, x9
    10  b.ls iovec_fits
    14  mov x2, x9
    18  mov x24, #1
iovec_fits:
     0  bl copy
     4  sub x24, x24, #1
     8  b iovec_entry
post:
     0  bl post_wait
reply:
     0  ldr x9, [x28, #0xd0]
     4  cbnz x9, program
     8  ldr x2, [x28, #0xe0]
     c  cbz x2, answer
    10  adr x9, bad_address
    14  str x9, [x28, #0x40]
    18  add x1, x28, #4, lsl #12
    1c  ldr x0, [x28, #0xd8]
    20  bl copy
    24  str xzr, [x28, #0x40]
answer:
     0  ldr x0, [x28, #0xc8]
resume:
     0  mov x17, x28
     4  add x16, x17, #3, lsl #12
     8  add x16, x16, #0xe00
     c  ldr x9, [x16, #0x100]
    10  msr nzcv, x9
    14  ldr x9, [x16, #0xf8]
    18  mov sp, x9
    1c  ldr x1, [x16, #8]
    20  ldp x2, x3, [x16, #0x10]
    24  ldp x4, x5, [x16, #0x20]
    28  ldp x6, x7, [x16, #0x30]
    2c  ldp x8, x9, [x16, #0x40]
    30  ldp x10, x11, [x16, #0x50]
    34  ldp x12, x13, [x16, #0x60]
    38  ldp x18, x19, [x16, #0x90]
    3c  ldp x20, x21, [x16, #0xa0]
    40  ldp x22, x23, [x16, #0xb0]
    44  ldp x24, x25, [x16, #0xc0]
    48  ldp x26, x27, [x16, #0xd0]
    4c  ldp x28, x29, [x16, #0xe0]
    50  ldr x14, [x16, #0x70]
    54  b exit_check
bad_address:
     0  str xzr, [x28, #0x40]
     4  mov x0, #-0xe
     8  b resume
announce:
     0  mov x9, #1
     4  stlr w9, [x28]
ring:
     0  ldr x10, [x28, #0x100]
     4  mov x9, #1
     8  dmb ish
     c  strb w9, [x10]
    10  dmb ish
    14  mov x10, #0x10000000
    18  movk x10, #0x6800, lsl #32
    1c  ldr w9, [x10]
    20  cbnz w9, kernel_awake
    24  mov x0, #0x3ff
    28  adr x1, one
    2c  mov x2, #8
    30  mov x8, #0x40
    34  svc #0
kernel_awake:
     0  ret
post_wait:
     0  str x30, [sp, #-0x10]!
     4  bl announce
     8  mov x11, #0x10000000
     c  movk x11, #0x6800, lsl #32
    10  ldr w11, [x11, #4]
spin:
     0  ldar w9, [x28]
     4  cmp w9, #3
     8  b.eq done
     c  cmp w9, #1
    10  b.ne sleep
    14  yield
    18  subs w11, w11, #1
    1c  b.mi sleep
    20  tst w11, #0xff
    24  b.ne spin
    28  mov x8, #0x7c
    2c  svc #0
    30  b spin
sleep:
     0  mov x9, #1
     4  str w9, [x28, #0x110]
     8  dmb ish
     c  ldar w2, [x28]
    10  cmp w2, #3
    14  b.eq woken
    18  mov x0, x28
    1c  mov x1, xzr
    20  mov x3, xzr
    24  mov x8, #0x62
    28  svc #0
    2c  b sleep
woken:
     0  str wzr, [x28, #0x110]
done:
     0  ldr x30, [sp], #0x10
     4  ret
