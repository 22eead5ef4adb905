op_enter:
     0  mov x25, x0
     4  mov x26, x1
     8  str xzr, [sp, #-0x10]!
     c  mov x0, #2
    10  mov x1, sp
    14  mov x2, xzr
    18  mov x3, #8
    1c  mov x8, #0x87
    20  svc #0
    24  add sp, sp, #0x10
    28  mov x16, x25
    2c  mov sp, x26
    30  mov x17, x28
    34  mov x0, xzr
    38  mov x1, xzr
    3c  mov x2, xzr
    40  mov x3, xzr
    44  mov x4, xzr
    48  mov x5, xzr
    4c  mov x6, xzr
    50  mov x7, xzr
    54  mov x8, xzr
    58  mov x9, xzr
    5c  mov x10, xzr
    60  mov x11, xzr
    64  mov x12, xzr
    68  mov x13, xzr
    6c  mov x14, xzr
    70  mov x15, xzr
    74  mov x18, xzr
    78  mov x19, xzr
    7c  mov x20, xzr
    80  mov x21, xzr
    84  mov x22, xzr
    88  mov x23, xzr
    8c  mov x24, xzr
    90  mov x25, xzr
    94  mov x26, xzr
    98  mov x27, xzr
    9c  mov x28, xzr
    a0  mov x29, xzr
    a4  mov x30, xzr
    a8  msr tpidr_el0, xzr
enter_check:
     0  ldr w15, [x17, #0x114]
     4  cbnz w15, trap_enter
     8  mov x17, xzr
enter_jump:
     0  br x16
