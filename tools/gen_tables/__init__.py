"""The steps of `tools/gen_syscalls.py`, in the order data flows through them.

packages (fetch Debian's header packages) -> headers (parse them with libclang) and prototypes
(parse include/linux/syscalls.h) -> overlay (what headers do not say) -> classify (argument kinds)
-> render (the JSON a person reads, the msgpack `tables.load` reads).
"""
