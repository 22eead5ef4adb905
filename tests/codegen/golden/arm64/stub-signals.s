trap_before:
     0  brk #0
trap_interrupted:
     0  brk #0
trap_after:
     0  brk #0
trap_enter:
     0  brk #0
sigreturn:
     0  brk #0
stub_broken:
     0  brk #0
handler:
     0  mov x28, sp
     4  and x28, x28, #0xfffffffffffe0000
     8  mov x9, sp
     c  str x9, [x28, #0x238]
    10  ldr x9, [x2, #0x1b8]
    14  mov x10, #0x680000000000
    18  sub x10, x9, x10
    1c  lsr x10, x10, #0x14
    20  cbz x10, in_stub
    24  mov x11, #1
    28  cmp x0, #0x3e
    2c  b.eq deliver
    30  cmp x0, #4
    34  b.eq maybe_fault
    38  cmp x0, #5
    3c  b.eq maybe_fault
    40  cmp x0, #7
    44  b.eq maybe_fault
    48  cmp x0, #8
    4c  b.eq maybe_fault
    50  cmp x0, #0xb
    54  b.eq maybe_fault
    58  cmp x0, #0x1f
    5c  b.eq maybe_fault
host_signal:
     0  mov x11, #1
     4  sub x12, x0, #1
     8  mov x13, #1
     c  lsl x13, x13, x12
    10  ldr x12, [x28, #0x120]
    14  orr x12, x12, x13
    18  str x12, [x28, #0x120]
    1c  b deliver
maybe_fault:
     0  ldr w10, [x1, #8]
     4  cmp w10, #0
     8  b.le host_signal
     c  mov x11, #5
deliver:
     0  str x11, [x28, #0x228]
     4  str x0, [x28, #0x10]
     8  str x1, [x28, #0x18]
     c  str x2, [x28, #0x20]
    10  mov x9, #1
    14  movk x9, #1, lsl #32
    18  str x9, [x28, #8]
    1c  b post
handler_return:
     0  ldr x9, [x28, #0x238]
     4  mov sp, x9
restorer:
     0  mov x8, #0x8b
     4  svc #0
     8  brk #1
in_stub:
     0  cmp x0, #0xb
     4  b.eq stub_fault
     8  cmp x0, #7
     c  b.eq stub_fault
    10  b not_copy
stub_fault:
     0  adr x10, guest_sigreturn
     4  add x10, x10, #4
     8  mov x11, #6
     c  cmp x9, x10
    10  b.eq deliver
    14  ldr x10, [x28, #0x40]
    18  cbz x10, prologue_fault
    1c  str x10, [x2, #0x1b8]
    20  b handler_return
not_copy:
     0  cmp x0, #0x1f
     4  b.eq other_trap.6
     8  cmp x0, #5
     c  b.ne asynchronous
    10  adr x10, trap_before
    14  cmp x9, x10
    18  b.ne other_trap.1
    1c  mov x11, #2
    20  ldp x9, x10, [x28, #0x58]
    24  stp x9, x10, [x2, #0x130]
    28  ldp x9, x10, [x28, #0x48]
    2c  str x9, [x2, #0x140]
    30  str x10, [x2, #0x1a8]
    34  ldr x9, [x28, #0x68]
    38  ldr w10, [x9, #4]
    3c  sbfx x10, x10, #0, #0x1a
    40  add x9, x9, x10, lsl #2
    44  str x9, [x2, #0x1b8]
    48  b deliver
other_trap.1:
     0  adr x10, trap_interrupted
     4  cmp x9, x10
     8  b.ne other_trap.2
     c  mov x11, #3
    10  ldp x9, x10, [x28, #0x58]
    14  stp x9, x10, [x2, #0x130]
    18  ldp x9, x10, [x28, #0x48]
    1c  str x9, [x2, #0x140]
    20  str x10, [x2, #0x1a8]
    24  ldr x9, [x28, #0x68]
    28  ldr w10, [x9, #4]
    2c  sbfx x10, x10, #0, #0x1a
    30  add x9, x9, x10, lsl #2
    34  add x9, x9, #4
    38  str x9, [x2, #0x1b8]
    3c  b deliver
other_trap.2:
     0  adr x10, trap_after
     4  cmp x9, x10
     8  b.ne other_trap.3
     c  mov x11, #4
    10  ldp x9, x10, [x28, #0x58]
    14  stp x9, x10, [x2, #0x130]
    18  ldp x9, x10, [x28, #0x48]
    1c  str x9, [x2, #0x140]
    20  str x10, [x2, #0x1a8]
    24  ldr x9, [x28, #0x68]
    28  ldr w10, [x9, #4]
    2c  sbfx x10, x10, #0, #0x1a
    30  add x9, x9, x10, lsl #2
    34  add x9, x9, #4
    38  str x9, [x2, #0x1b8]
    3c  b deliver
other_trap.3:
     0  adr x10, trap_enter
     4  cmp x9, x10
     8  b.ne other_trap.4
     c  mov x11, #1
    10  ldr x9, [x2, #0x138]
    14  str x9, [x2, #0x1b8]
    18  str xzr, [x2, #0x130]
    1c  str xzr, [x2, #0x140]
    20  b deliver
other_trap.4:
     0  adr x10, sigreturn
     4  cmp x9, x10
     8  b.ne other_trap.5
     c  mov x11, #6
    10  b deliver
other_trap.5:
     0  adr x10, stub_broken
     4  cmp x9, x10
     8  b.ne other_trap.6
     c  mov x11, #7
    10  b deliver
other_trap.6:
fatal:
     0  mov x11, #7
     4  b deliver
asynchronous:
     0  cmp x0, #0x3e
     4  b.eq windows
     8  sub x12, x0, #1
     c  mov x13, #1
    10  lsl x13, x13, x12
    14  ldr x12, [x28, #0x120]
    18  orr x12, x12, x13
    1c  str x12, [x28, #0x120]
    20  mov x10, #1
    24  str w10, [x28, #0x114]
windows:
     0  adr x10, native_check
     4  cmp x9, x10
     8  b.lo outside_window.1
     c  adr x12, native_call
    10  cmp x9, x12
    14  b.hi outside_window.1
    18  str x10, [x2, #0x1b8]
    1c  b handler_return
outside_window.1:
     0  adr x10, exit_check
     4  cmp x9, x10
     8  b.lo outside_window.2
     c  adr x12, exit_jump
    10  cmp x9, x12
    14  b.hi outside_window.2
    18  str x10, [x2, #0x1b8]
    1c  str x28, [x2, #0x140]
    20  b handler_return
outside_window.2:
     0  adr x10, hostcall_check
     4  cmp x9, x10
     8  b.lo outside_window.3
     c  adr x12, hostcall_call
    10  cmp x9, x12
    14  b.hi outside_window.3
    18  str x10, [x2, #0x1b8]
    1c  b handler_return
outside_window.3:
     0  adr x10, watch_check
     4  cmp x9, x10
     8  b.lo outside_window.4
     c  adr x12, watch_call
    10  cmp x9, x12
    14  b.hi outside_window.4
    18  str x10, [x2, #0x1b8]
    1c  b handler_return
outside_window.4:
     0  adr x10, enter_check
     4  cmp x9, x10
     8  b.lo outside_window.5
     c  adr x12, enter_jump
    10  cmp x9, x12
    14  b.hi outside_window.5
    18  str x10, [x2, #0x1b8]
    1c  str x28, [x2, #0x140]
    20  b handler_return
outside_window.5:
     0  ldr x10, [x28, #0x120]
     4  cbz x10, handler_return
     8  ldr w10, [x28]
     c  cmp x10, #3
    10  b.eq handler_return
    14  mov x10, #1
    18  str w10, [x28, #4]
    1c  bl ring
    20  b handler_return
prologue_fault:
     0  adr x10, entry
     4  cmp x9, x10
     8  b.lo outside_prologue.1
     c  adr x12, entry_saved
    10  cmp x9, x12
    14  b.lo prologue_inside
outside_prologue.1:
     0  adr x10, set_tls
     4  cmp x9, x10
     8  b.lo outside_prologue.2
     c  adr x12, set_tls_saved
    10  cmp x9, x12
    14  b.lo prologue_inside
outside_prologue.2:
     0  adr x10, misses
     4  cmp x9, x10
     8  b.lo outside_prologue.3
     c  adr x12, misses_end
    10  cmp x9, x12
    14  b.lo prologue_inside
outside_prologue.3:
     0  b other_trap.6
prologue_inside:
     0  ldr x10, [x2, #0x1b0]
     4  ldp x11, x12, [x10, #-0x20]
     8  stp x11, x12, [x28, #0x48]
     c  ldp x11, x12, [x2, #0x130]
    10  adr x13, entry
    14  cmp x9, x13
    18  b.eq prologue_stored
    1c  adr x13, set_tls
    20  cmp x9, x13
    24  b.eq prologue_stored
    28  ldp x11, x12, [x10, #-0x10]
prologue_stored:
     0  stp x11, x12, [x28, #0x58]
     4  ldr x11, [x2, #0x1a8]
     8  str x11, [x28, #0x68]
     c  str x28, [x2, #0x140]
    10  ldur x12, [x11, #0xc]
    14  adr x13, entry
    18  cmp x12, x13
    1c  adr x14, entry_saved
    20  b.eq prologue_entry
    24  adr x14, set_tls_saved
prologue_entry:
     0  str x14, [x2, #0x1b8]
     4  b handler_return
