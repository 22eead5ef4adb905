"""The arm64 stub.

Contract of the whole stub: a patched site has branched to its trampoline (codegen.layout), which
calls `entry` with x8 = number and x30 = the trampoline's second half; x17 and x30 lie below the
guest's sp. It answers in x0 and goes back through x30. Every other register is the guest's, the
flags too. Nothing is kept below the guest's sp once the slot is known: the call may be the munmap
of that very stack. x17 holds the slot on the fast path, x28 everywhere else.
"""
