"""The x86_64 stub.

Contract of the whole stub: it is entered with rax = number and rcx = return address (the address
after the guest's `syscall`), answers in rax and jumps to that address. `syscall` destroys rcx and
r11, so the guest cannot miss them; the arithmetic flags are not kept (no compiler keeps values in
them across a system call, and inline assembly clobbers them implicitly). Every other register is
the guest's. The guest's stack is never touched: its red zone may be live.
"""
