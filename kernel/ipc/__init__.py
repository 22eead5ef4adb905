"""System V and POSIX inter-process communication, private to a container.

Shared memory and POSIX queues are host objects without a name; semaphores and System V queues are
Python objects whose sleepers are woken by whoever changes them. See sysvipc(7), mq_overview(7).
"""
