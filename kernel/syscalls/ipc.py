"""System V IPC (sysvipc(7)): shared memory, semaphores, message queues."""

from __future__ import annotations

import errno
import struct
import time
from typing import TYPE_CHECKING

from kernel.abi import Flags, InBuffer, InStruct, Int, Long, Pointer, Size, UInt, ULong
from kernel.capabilities import CAP_SYS_RESOURCE
from kernel.errors import LinuxError
from kernel.ipc import msg, sem, shm
from kernel.ipc.namespace import ipc_of
from kernel.ipc.objects import IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, READ, WRITE, Object
from kernel.pages import MAP_FIXED, MAP_FIXED_NOREPLACE, hold, rounded
from kernel.reply import Program, Reply
from kernel.syscalls.declare import Restart, syscall
from kernel.text_mapping import call

if TYPE_CHECKING:
    from kernel.reply import Answer
    from kernel.task import Task

_SHM_RDONLY, _SHM_RND, _SHM_REMAP, _SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000
_SHM_LOCK, _SHM_UNLOCK, _SHM_STAT, _SHM_INFO, _SHM_STAT_ANY = 11, 12, 13, 14, 15
_GETPID, _GETVAL, _GETALL, _GETNCNT, _GETZCNT, _SETVAL, _SETALL = range(11, 18)
_SEM_STAT, _SEM_INFO, _SEM_STAT_ANY = 18, 19, 20
_MSG_STAT, _MSG_INFO, _MSG_STAT_ANY = 11, 12, 13
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_SHARED = 1


async def _set_owner(task: Task, target: Object, struct_name: str, prefix: str, buf: int) -> bytes:
    """IPC_SET by somebody who may; the struct that was given."""
    layout = task.abi.structs[struct_name]
    raw = await task.copy_in(buf, layout.size)
    target.check_owner(task.credentials)
    values = [layout.get(raw, f"{prefix}.{member}") for member in ("uid", "gid", "mode")]
    target.set(*values)
    return raw


# -- shared memory -------------------------------------------------------------------------------


@syscall(missing="SHM_HUGETLB: ENOMEM, as on a machine without huge pages")
def shmget(task: Task, key: Int, size: Size, flags: Flags) -> int:
    """shmget(2)."""
    return ipc_of(task).segments.get(task, key, size, flags)


@syscall()
async def shmat(task: Task, shmid: Int, shmaddr: Pointer, shmflg: Int) -> Answer:
    """shmat(2): the guest maps the segment's memory itself."""
    segment = ipc_of(task).segments.find(task, shmid)
    container = task.process.container
    page = container.page_size
    address, fixed = shmaddr, 0
    if address:
        if address % page:
            if not shmflg & _SHM_RND:
                return -errno.EINVAL
            address -= address % page
        fixed = MAP_FIXED if shmflg & _SHM_REMAP else MAP_FIXED_NOREPLACE
    elif shmflg & _SHM_REMAP:
        return -errno.EINVAL
    want, protection = READ, _PROT_READ
    if not shmflg & _SHM_RDONLY:
        want |= WRITE
        protection |= _PROT_WRITE
    if shmflg & _SHM_EXEC:
        if not container.translations.shares:
            return -errno.EACCES
        want |= 1
        protection |= _PROT_EXEC
    segment.check(task.credentials, want)
    size = rounded(segment.size, page)
    held = container.larger_pages and not fixed
    if held:
        address = await hold(task, 0, size, page)
        fixed = MAP_FIXED
    numbers = task.abi.numbers
    program = Program()
    fd = task.process.channel.give(task, program, shm.duplicate(segment, shmflg), True)
    mapped = program.hostcall(
        numbers["mmap"], address, size, protection, _MAP_SHARED | fixed, fd, 0, checked=False
    )
    program.hostcall(numbers["close"], fd, checked=False)
    await task.run(program)
    result = task.result(int(mapped))
    if -4096 < result < 0:
        if held:
            await call(task, "munmap", address, size)
        return -errno.EINVAL if result == -errno.EEXIST else result
    segment.attached = int(time.time())
    segment.last_pid = task.process.pid
    return result


@syscall()
async def shmdt(task: Task, shmaddr: Pointer) -> Answer:
    """shmdt(2)."""
    segments = ipc_of(task).segments
    found = segments.at(task.process, shmaddr)
    if found is None:
        return -errno.EINVAL
    segment, length = found
    await task.hostcall("munmap", shmaddr, length)
    segments.settle(task, segment)
    return 0


def _shm_info(task: Task, cmd: int, buf: int) -> Answer:
    registry = ipc_of(task).segments.registry
    page = task.process.container.page_size
    if cmd == IPC_INFO:
        packed = task.abi.structs["shminfo64"].pack(
            shmmax=shm.SHMMAX, shmmin=1, shmmni=shm.SHMMNI, shmseg=shm.SHMMNI, shmall=shm.SHMMAX
        )
    else:
        pages = sum(rounded(s.size, page) // page for s in registry.objects.values())
        packed = task.abi.structs["shm_info"].pack(used_ids=len(registry.objects), shm_tot=pages)
    return Reply.out(registry.highest, (buf, packed))


@syscall()
async def shmctl(task: Task, shmid: Int, cmd: Int, buf: Pointer) -> Answer:
    """shmctl(2)."""
    if cmd < 0 or shmid < 0:
        return -errno.EINVAL
    if cmd in (IPC_INFO, _SHM_INFO):
        return _shm_info(task, cmd, buf)
    segments, who = ipc_of(task).segments, task.credentials
    segment = segments.find(task, shmid)
    if cmd in (IPC_STAT, _SHM_STAT, _SHM_STAT_ANY):
        if cmd != _SHM_STAT_ANY:
            segment.check(who, READ)
        flags = (shm.SHM_DEST if segment.doomed else 0) | (shm.SHM_LOCKED if segment.locked else 0)
        packed = task.abi.structs["shmid64_ds"].pack(
            **segment.permissions("shm_perm", flags),
            shm_segsz=segment.size,
            shm_atime=segment.attached,
            shm_dtime=segment.detached,
            shm_ctime=segment.changed,
            shm_cpid=segment.creator_pid,
            shm_lpid=segment.last_pid,
            shm_nattch=shm.attachments(task.process.container, segment),
        )
        return Reply.out(0 if cmd == IPC_STAT else segment.id, (buf, packed))
    if cmd == IPC_SET:
        await _set_owner(task, segment, "shmid64_ds", "shm_perm", buf)
    elif cmd == IPC_RMID:
        segment.check_owner(who)
        segments.remove(task, segment)
    elif cmd in (_SHM_LOCK, _SHM_UNLOCK):
        segment.check_owner(who)
        segment.locked = cmd == _SHM_LOCK
    else:
        return -errno.EINVAL
    return 0


# -- semaphores ----------------------------------------------------------------------------------


@syscall()
def semget(task: Task, key: Int, nsems: Int, semflg: Int) -> int:
    """semget(2)."""
    return ipc_of(task).semaphores.get(task, key, nsems, semflg)


@syscall()
async def semop(task: Task, semid: Int, sops: InBuffer, nsops: UInt) -> int:
    """semop(2); never restarted (signal(7))."""
    return await ipc_of(task).semaphores.operate(task, semid, sops, nsops, None)


@syscall()
async def semtimedop(task: Task, semid: Int, sops: InBuffer, nsops: UInt, timeout: InStruct) -> int:
    """semtimedop(2)."""
    limit = None
    if timeout is not None:
        seconds, nanoseconds = struct.unpack("<qq", timeout)
        if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
            return -errno.EINVAL
        limit = seconds + nanoseconds / 1e9
    return await ipc_of(task).semaphores.operate(task, semid, sops, nsops, limit)


def _sem_info(task: Task, cmd: int, buf: int) -> Answer:
    registry = ipc_of(task).semaphores.registry
    usage = {"semusz": 20, "semaem": sem.SEMVMX}
    if cmd == _SEM_INFO:
        count = sum(len(s.values) for s in registry.objects.values())
        usage = {"semusz": len(registry.objects), "semaem": count}
    packed = task.abi.structs["seminfo"].pack(
        semmap=sem.SEMMNS,
        semmni=sem.SEMMNI,
        semmns=sem.SEMMNS,
        semmnu=sem.SEMMNS,
        semmsl=sem.SEMMSL,
        semopm=sem.SEMOPM,
        semume=sem.SEMOPM,
        semvmx=sem.SEMVMX,
        **usage,
    )
    return Reply.out(registry.highest, (buf, packed))


@syscall()
async def semctl(task: Task, semid: Int, semnum: Int, cmd: Int, arg: ULong) -> Answer:
    """semctl(2): `arg` is the union semun by value."""
    if semid < 0 or cmd < 0:
        return -errno.EINVAL
    if cmd in (IPC_INFO, _SEM_INFO):
        return _sem_info(task, cmd, arg)
    semaphores, who = ipc_of(task).semaphores, task.credentials
    target = semaphores.registry.find(semid)
    if cmd in (IPC_STAT, _SEM_STAT, _SEM_STAT_ANY):
        if cmd != _SEM_STAT_ANY:
            target.check(who, READ)
        packed = task.abi.structs["semid64_ds"].pack(
            **target.permissions("sem_perm"),
            sem_otime=target.operated,
            sem_ctime=target.changed,
            sem_nsems=len(target.values),
        )
        return Reply.out(0 if cmd == IPC_STAT else target.id, (arg, packed))
    if cmd == IPC_SET:
        await _set_owner(task, target, "semid64_ds", "sem_perm", arg)
        return 0
    if cmd == IPC_RMID:
        target.check_owner(who)
        semaphores.remove(target)
        return 0
    return await _sem_values(task, target, semnum, cmd, arg)


async def _sem_values(
    task: Task, target: sem.SemaphoreSet, semnum: int, cmd: int, arg: int
) -> Answer:
    count = len(target.values)
    if cmd in (_GETALL, _SETALL):
        target.check(task.credentials, READ if cmd == _GETALL else WRITE)
        if cmd == _GETALL:
            return Reply.out(0, (arg, struct.pack(f"<{count}H", *target.values)))
        values = struct.unpack(f"<{count}H", await task.copy_in(arg, 2 * count))
        if target.removed:
            return -errno.EIDRM
        target.assign(task, 0, list(values))
        return 0
    if not _GETPID <= cmd <= _SETVAL:
        return -errno.EINVAL
    if not 0 <= semnum < count:
        return -errno.EINVAL
    target.check(task.credentials, WRITE if cmd == _SETVAL else READ)
    if cmd == _SETVAL:
        value = (arg & 0x7FFFFFFF) - (arg & 0x80000000)
        target.assign(task, semnum, [value])
        return 0
    if cmd in (_GETNCNT, _GETZCNT):
        return target.waiting(semnum, cmd == _GETZCNT)
    return (target.values if cmd == _GETVAL else target.pids)[semnum]


# -- message queues ------------------------------------------------------------------------------


@syscall()
def msgget(task: Task, key: Int, msgflg: Int) -> int:
    """msgget(2)."""
    return ipc_of(task).queues.get(task, key, msgflg)


@syscall(restart=Restart.NOHAND)
async def msgsnd(task: Task, msqid: Int, msgp: Pointer, msgsz: Size, msgflg: Int) -> int:
    """msgsnd(2)."""
    kind = struct.unpack("<q", await task.copy_in(msgp, 8))[0]
    if msgsz > msg.MSGMAX or msqid < 0 or kind < 1:
        return -errno.EINVAL
    text = await task.copy_in(msgp + 8, msgsz) if msgsz else b""
    return await ipc_of(task).queues.send(task, msqid, msg.Message(kind, text), msgflg)


@syscall(restart=Restart.NOHAND)
async def msgrcv(
    task: Task, msqid: Int, msgp: Pointer, msgsz: Size, msgtyp: Long, msgflg: Int
) -> Answer:
    """msgrcv(2)."""
    if msqid < 0 or msgsz >> 63:
        return -errno.EINVAL
    got = await ipc_of(task).queues.receive(task, msqid, msgsz, msgtyp, msgflg)
    return Reply.out(len(got.text), (msgp, struct.pack("<q", got.type) + got.text))


def _msg_info(task: Task, cmd: int, buf: int) -> Answer:
    registry = ipc_of(task).queues.registry
    queues = registry.objects.values()
    values = {"msgpool": msg.MSGMNI * msg.MSGMNB // 1024, "msgmap": msg.MSGMNB}
    values["msgtql"] = msg.MSGMNB
    if cmd == _MSG_INFO:
        values = {"msgpool": len(queues), "msgmap": sum(len(q.messages) for q in queues)}
        values["msgtql"] = sum(q.bytes for q in queues)
    packed = task.abi.structs["msginfo"].pack(
        msgmax=msg.MSGMAX,
        msgmnb=msg.MSGMNB,
        msgmni=msg.MSGMNI,
        msgssz=16,
        msgseg=0xFFFF,
        **values,
    )
    return Reply.out(registry.highest, (buf, packed))


@syscall()
async def msgctl(task: Task, msqid: Int, cmd: Int, buf: Pointer) -> Answer:
    """msgctl(2)."""
    if msqid < 0 or cmd < 0:
        return -errno.EINVAL
    if cmd in (IPC_INFO, _MSG_INFO):
        return _msg_info(task, cmd, buf)
    queues, who = ipc_of(task).queues, task.credentials
    queue = queues.registry.find(msqid)
    if cmd in (IPC_STAT, _MSG_STAT, _MSG_STAT_ANY):
        if cmd != _MSG_STAT_ANY:
            queue.check(who, READ)
        packed = task.abi.structs["msqid64_ds"].pack(
            **queue.permissions("msg_perm"),
            msg_stime=queue.sent,
            msg_rtime=queue.received,
            msg_ctime=queue.changed,
            msg_cbytes=queue.bytes,
            msg_qnum=len(queue.messages),
            msg_qbytes=queue.limit,
            msg_lspid=queue.last_sender,
            msg_lrpid=queue.last_receiver,
        )
        return Reply.out(0 if cmd == IPC_STAT else queue.id, (buf, packed))
    if cmd == IPC_SET:
        return await _set_queue(task, queue, buf)
    if cmd == IPC_RMID:
        queue.check_owner(who)
        queues.remove(queue)
        return 0
    return -errno.EINVAL


async def _set_queue(task: Task, queue: msg.Queue, buf: int) -> int:
    layout = task.abi.structs["msqid64_ds"]
    limit = layout.get(await task.copy_in(buf, layout.size), "msg_qbytes")
    queue.check_owner(task.credentials)
    if limit > msg.MSGMNB and not task.credentials.can(CAP_SYS_RESOURCE):
        raise LinuxError(errno.EPERM)
    await _set_owner(task, queue, "msqid64_ds", "msg_perm", buf)
    queue.limit = limit
    queue.wake(queue.senders)
    queue.wake(queue.receivers)
    return 0
