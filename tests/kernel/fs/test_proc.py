"""/proc, /sys and /dev of a container."""

from __future__ import annotations

import errno
import gc
import os
import re
import socket

from kernel.fs.metadata import DIRECTORY, REGULAR, SYMLINK
from kernel.fs.resolver import resolve, walk

from .conftest import FakeTask, Home, dirents, fails


def everything(task: FakeTask, top: bytes) -> dict[bytes, bytes]:
    """All readable files below `top`, without following links, by path."""
    found = {}
    pending = [top]
    while pending:
        path = pending.pop()
        for name in task.names(path):
            below = path + b"/" + name
            node = walk(task, task.fs.cwd, below, follow=False)
            if b"/fd" in path and not node.kind:
                continue  # the listing's own descriptor: the fake guest is this process
            assert node.stat()
            if node.kind == DIRECTORY:
                pending.append(below)
            elif node.kind == REGULAR and node.mode & 0o444:
                try:
                    found[below] = task.read(below)
                except Exception as error:  # noqa: BLE001
                    found[below] = b"! " + str(error).encode()
            elif node.kind == SYMLINK:
                found[below] = node.readlink(task)
    return found


def test_nothing_in_proc_and_sys_tells_a_host_path(home: Home) -> None:
    home.layer({"etc/passwd": b"", "bin/sh": b""})
    task = home.container()
    task.process.exe = resolve(task, task.fs.cwd, b"/bin/sh")
    fd = task.open(b"/bin/sh", os.O_RDWR)
    gc.collect()  # the fake guest is this process: slots of other tests are among its mappings
    for top in (b"/proc", b"/sys/fs/cgroup", b"/sys/class", b"/sys/kernel"):
        for path, content in everything(task, top).items():
            assert os.fsencode(home.path) not in content, path
            assert b"ddock" not in content, path
            refused = path.rpartition(b"/")[2] in (b"kmsg", b"kcore", b"sysrq-trigger")
            assert refused or not content.startswith(b"! "), (path, content)
    os.close(fd)


def test_self_is_the_asking_process(home: Home) -> None:
    home.layer({"bin/sh": b"#!"})
    task = home.container()
    task.process.exe = resolve(task, task.fs.cwd, b"/bin/sh")
    assert resolve(task, task.fs.cwd, b"/proc/self", follow=False).readlink(task) == b"1"
    link = resolve(task, task.fs.cwd, b"/proc/self/exe", follow=False)
    assert link.readlink(task) == b"/bin/sh"
    assert resolve(task, task.fs.cwd, b"/proc/self/exe") is task.process.exe
    assert task.read(b"/proc/self/cmdline") == b"init\0-x\0"
    assert task.read(b"/proc/self/comm") == b"fake\n"
    assert task.read(b"/proc/thread-self/comm") == b"fake\n"
    fields = task.read(b"/proc/self/stat").split()
    assert fields[:2] + fields[3:6] == [b"1", b"(fake)", b"0", b"1", b"1"]
    assert len(fields) == 52
    status = task.read(b"/proc/self/status")
    assert b"\nTgid:\t1\nNgid:\t0\nPid:\t1\nPPid:\t0\nTracerPid:\t0\n" in status
    assert re.search(rb"\nVmRSS:\t *\d+ kB\n", status)
    fails(errno.ENOENT, task.open, b"/proc/99999")
    assert b"1" in task.names(b"/proc")


def test_descriptors_are_reopened_by_their_links(home: Home) -> None:
    home.layer({"f": b"data"})
    task = home.container()
    fd = task.open(b"/f", os.O_RDONLY)
    name = b"/proc/self/fd/%d" % fd
    assert resolve(task, task.fs.cwd, name, follow=False).readlink(task) == b"/f"
    assert task.read(name) == b"data"
    again = task.open(name, os.O_RDWR)  # must not write the layer
    os.write(again, b"DA")
    assert task.read(b"/f") == b"DAta"
    assert (home.path / "layer0/root/f").read_bytes() == b"data"
    read_end, write_end = os.pipe()
    link = resolve(task, task.fs.cwd, b"/dev/fd/%d" % read_end, follow=False)
    assert link.readlink(task).startswith(b"pipe:[")
    other = task.open(b"/dev/fd/%d" % write_end, os.O_WRONLY)
    os.write(other, b"x")
    assert os.read(read_end, 9) == b"x"
    for number in (fd, again, read_end, write_end, other):
        os.close(number)
    directory = task.open(b"/proc/self/fd")
    assert b"%d" % directory in [entry[0] for entry in dirents(task, directory)]
    task.close(directory)


def test_live_files_are_read_again_from_the_start(home: Home) -> None:
    task = home.container()
    fd = task.open(b"/proc/self/oom_score_adj", os.O_RDWR)
    file = task.file(fd)
    assert file.read(task, 99, None) == b"0\n"
    assert file.read(task, 99, None) == b""
    file.write(task, b"300\n", None)
    assert file.read(task, 99, 0) == b"300\n"
    file.seek(task, 0, os.SEEK_SET)
    assert file.read(task, 1, None) == b"3"
    assert file.read(task, 9, None) == b"00\n"
    task.close(fd)
    fails(errno.EACCES, task.open, b"/proc/meminfo", os.O_WRONLY)
    fails(errno.EROFS, task.open, b"/sys/new", os.O_WRONLY | os.O_CREAT)


def test_mounts_are_listed_from_the_root(home: Home) -> None:
    (home.path / "vol").mkdir()
    volume = {"type": "bind", "source": os.fspath(home.path / "vol"), "target": "/my data"}
    task = home.container(mounts=[{**volume, "readonly": True, "options": []}])
    lines = task.read(b"/proc/self/mounts").splitlines()
    assert lines[0].startswith(b"overlay / overlay rw,")
    assert b"proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0" in lines
    assert b"/dev/root /my\\040data ext4 ro,relatime 0 0" in lines
    info = task.read(b"/proc/self/mountinfo").splitlines()
    assert len(info) == len(lines)
    ids = {line.split()[0] for line in info}
    assert all(line.split()[1] in ids for line in info[1:])
    assert all(b" - " in line for line in info)


def test_devices_work_and_look_like_devices(home: Home) -> None:
    task = home.container()
    for name, numbers in (
        (b"null", (1, 3)),
        (b"zero", (1, 5)),
        (b"urandom", (1, 9)),
        (b"tty", (5, 0)),
    ):
        a = resolve(task, task.fs.cwd, b"/dev/" + name).attributes()
        assert (a.mode, os.major(a.rdev), os.minor(a.rdev)) == (0o020666, *numbers)
    fd = task.open(b"/dev/zero")
    assert os.read(fd, 3) == bytes(3)
    os.close(fd)
    task.write(b"/dev/null", b"x")
    assert task.names(b"/dev/pts") == [b"ptmx"]
    assert {b"fd", b"stdin", b"stdout", b"stderr", b"ptmx", b"shm", b"mqueue"} < set(
        task.names(b"/dev")
    )
    assert resolve(task, task.fs.cwd, b"/dev/shm").mode & 0o7777 == 0o1777


def test_pseudo_terminals_are_seen_only_while_open(home: Home) -> None:
    task = home.container()
    master = task.open(b"/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    (name,) = [n for n in task.names(b"/dev/pts") if n != b"ptmx"]
    import fcntl

    fcntl.ioctl(master, 0x40045431, bytes(4))  # TIOCSPTLCK: unlock
    slave = task.open(b"/dev/pts/" + name, os.O_RDWR | os.O_NOCTTY)
    os.write(slave, b"hi\n")
    assert os.read(master, 99) == b"hi\r\n"
    assert resolve(task, task.fs.cwd, b"/proc/self/fd/%d" % slave, False).readlink(task) == (
        b"/dev/pts/" + name
    )
    mounts = task.process.container.mounts
    from kernel.host.linux_fs import fstat_raw

    one = mounts.present(task, slave, fstat_raw(slave))[:56]
    two = resolve(task, task.fs.cwd, b"/dev/pts/" + name).stat()[:56]
    assert one == two  # ttyname(3) compares device, inode and rdev
    os.close(slave)
    os.close(master)
    assert task.names(b"/dev/pts") == [b"ptmx"]


def test_sockets_of_the_container_are_listed(home: Home) -> None:
    task = home.container()
    with socket.create_server(("127.0.0.1", 0)):
        lines = task.read(b"/proc/net/tcp").splitlines()
    assert len(lines) == 2
    assert lines[1].split()[3] == b"0A"
    assert b"eth0" in task.read(b"/proc/net/dev")


def test_generated_files_and_sizes(home: Home) -> None:
    home.layer({"etc/hosts": b"image's"})
    task = home.container(hosts=["10.0.0.9\tdb"], dns=["9.9.9.9"], shm_size_bytes=1 << 20)
    assert b"10.0.0.9\tdb\n" in task.read(b"/etc/hosts")
    assert b"\tbox\n" in task.read(b"/etc/hosts")
    assert task.read(b"/etc/hostname") == b"box\n"
    assert task.read(b"/etc/resolv.conf").startswith(b"nameserver 9.9.9.9\n")
    assert resolve(task, task.fs.cwd, b"/dev/shm").fs.statfs()[1] == 256
    assert task.read(b"/sys/fs/cgroup/memory.max") == b"%d\n" % (1 << 30)
    assert task.read(b"/sys/devices/system/cpu/online").strip()
    assert task.read(b"/sys/devices/system/cpu/possible").strip()
