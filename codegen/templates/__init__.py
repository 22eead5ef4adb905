"""The stub's code, one package per ISA with the same module names in each.

entry    where every system call arrives; what runs natively
post     the slow path: copy arguments in, post, wait, answer
program  the reply program's interpreter
signals  the host signal handler: traps, kicks, faults
boot     from the host's execve to the first reply
stub     all of them in order
"""
