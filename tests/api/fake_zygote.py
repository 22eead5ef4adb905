"""A zygote that runs commands on the host: the API is tested without a kernel.

It speaks the control protocol of the real one. A "container" is a host process whose working
directory is in the upper directory; paths are not translated. Archives work on that directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

_MAX_BYTES = 256 << 10


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    try:
        sock.send(msgpack.packb(message, unicode_errors="surrogateescape"))
    except OSError:
        os._exit(0)  # the daemon has gone


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(sock, _MAX_BYTES, 16)
    if not data:
        return None, []
    return msgpack.unpackb(data, unicode_errors="surrogateescape"), list(descriptors)


class Refused(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class FakeKernel:
    """One container, in a process of its own."""

    def __init__(self, spec: dict[str, Any], control: socket.socket, stdio: list[int]) -> None:
        self.spec = spec
        self.control = control
        self.stdio = stdio
        self.init: subprocess.Popen[bytes] | None = None
        self.execs: dict[str, subprocess.Popen[bytes]] = {}
        self.root = Path(spec["upper"]) / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        (Path(spec["runtime"]) / "spec.json").write_text(json.dumps(spec))

    def serve(self) -> None:
        while True:
            message, descriptors = receive(self.control)
            if message is None:
                self.kill_everything()
                os._exit(0)
            operation = getattr(self, "op_" + message["op"].replace("-", "_"), None)
            try:
                if operation is None:
                    raise Refused("invalid", f"unknown operation {message['op']}")
                answer = operation(message, descriptors)
                send(self.control, {"id": message["id"], "ok": answer})
            except Refused as error:
                text = {"kind": error.kind, "message": str(error)}
                send(self.control, {"id": message["id"], "error": text})
            for number in descriptors:
                os.close(number)

    def spawn(
        self, argv: list[str], env: list[str], stdio: list[int], *, terminal: bool, cwd: str
    ) -> subprocess.Popen[bytes]:
        variables = dict(item.split("=", 1) for item in env)
        program = argv[0]
        if "/" not in program:
            found = shutil.which(program, path=variables.get("PATH", ""))
            if found is None:
                raise Refused("not-found", f'exec: "{program}": executable file not found in $PATH')
            program = found
        where = self.root / cwd.lstrip("/")
        where.mkdir(parents=True, exist_ok=True)

        def prepare() -> None:
            os.setsid()
            if terminal:
                import fcntl
                import termios

                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            return subprocess.Popen(
                argv,
                executable=program,
                env=variables,
                cwd=where,
                stdin=stdio[0],
                stdout=stdio[1],
                stderr=stdio[2],
                preexec_fn=prepare,  # noqa: PLW1509 - no thread holds a lock here
            )
        except FileNotFoundError:
            text = f'exec: "{argv[0]}": stat {argv[0]}: no such file or directory'
            raise Refused("not-found", text) from None
        except PermissionError:
            what = "is a directory" if os.path.isdir(program) else "permission denied"
            raise Refused("not-executable", f'exec: "{argv[0]}": {what}') from None

    def op_start(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        spec = self.spec
        if spec["argv"][0] == "/kernel-crash":
            os._exit(9)
        self.init = self.spawn(
            spec["argv"],
            spec["env"],
            self.stdio,
            terminal=spec["terminal"],
            cwd=spec["cwd"],
        )
        for number in set(self.stdio):
            os.close(number)
        threading.Thread(target=self.watch_init, daemon=True).start()
        return {"pid": self.init.pid}

    def watch_init(self) -> None:
        assert self.init is not None
        code = self.init.wait()
        for process in self.execs.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        event = {"event": "exit", "code": code if code >= 0 else 128 - code}
        send(self.control, event | {"oom": False, "error": ""})
        time.sleep(0.02)
        self.kill_everything()
        os._exit(0)

    def kill_everything(self) -> None:
        for process in (self.init, *self.execs.values()):
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def op_exec(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        process = self.spawn(
            message["argv"],
            message["env"],
            descriptors,
            terminal=message["terminal"],
            cwd=message["cwd"],
        )
        name = message["exec"]
        self.execs[name] = process

        def watch() -> None:
            code = process.wait()
            code = code if code >= 0 else 128 - code
            send(self.control, {"event": "exec-exit", "exec": name, "code": code})

        threading.Thread(target=watch, daemon=True).start()
        return {"pid": process.pid}

    def op_signal(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        assert self.init is not None
        with suppress(ProcessLookupError):
            self.init.send_signal(message["signal"])
        return {}

    def op_exec_signal(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        with suppress(ProcessLookupError):
            os.killpg(self.execs[message["exec"]].pid, message["signal"])
        return {}

    def op_pause(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        assert self.init is not None
        os.killpg(self.init.pid, signal.SIGSTOP)
        return {}

    def op_resume(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        assert self.init is not None
        os.killpg(self.init.pid, signal.SIGCONT)
        return {}

    def op_update(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        return {}

    def op_top(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        return {"titles": ["PID", "CMD"], "processes": [["1", " ".join(self.spec["argv"])]]}

    def op_stats(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        return {"cpu_user_ns": 1000, "cpu_system_ns": 500, "memory_bytes": 1 << 20, "pids": 1}

    def op_trace(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if message["on"]:
            os.write(descriptors[0], b"openat(AT_FDCWD, /etc/passwd, O_RDONLY) = 3\n")
        return {}

    def path(self, text: str) -> Path:
        path = self.root / text.lstrip("/")
        if not os.path.lexists(path):
            raise Refused("not-found", "no such file or directory")
        return path

    def op_archive_stat(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        path = self.path(message["path"])
        facts = path.lstat()
        return {
            "name": path.name,
            "size": facts.st_size,
            "mode": facts.st_mode,
            "mtime_ns": facts.st_mtime_ns,
            "link_target": os.readlink(path) if stat.S_ISLNK(facts.st_mode) else "",
        }

    def op_archive_get(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        path = self.path(message["path"])
        pipe = os.fdopen(os.dup(descriptors[0]), "wb")
        with pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
            tar.add(path, path.name)
        return {}

    def op_archive_put(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        path = self.path(message["path"])
        if not path.is_dir():
            raise Refused("not-directory", "extraction point is not a directory")
        with os.fdopen(os.dup(descriptors[0]), "rb") as pipe:
            try:
                with tarfile.open(fileobj=pipe, mode="r|") as tar:
                    tar.extractall(path)  # noqa: S202 - our own tests wrote it
            except tarfile.TarError as error:
                raise Refused("invalid", f"Error processing tar file: {error}") from None
            while pipe.read(65536):
                pass
        return {}

    def op_export(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        pipe = os.fdopen(os.dup(descriptors[0]), "wb")
        with pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
            tar.add(self.root, ".")
        return {}

    op_layer = op_export

    def op_changes(self, message: dict[str, Any], descriptors: list[int]) -> list[dict[str, Any]]:
        found = sorted(self.root.rglob("*"))
        return [{"kind": 1, "path": f"/{path.relative_to(self.root)}"} for path in found]


def main() -> None:
    daemon = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        message, descriptors = receive(daemon)
        if message is None:
            return
        spec = message["spec"]
        if spec["hostname"] == "refuse-boot":
            send(daemon, {"ok": False, "error": {"kind": "internal", "message": "no kernel today"}})
            for number in descriptors:
                os.close(number)
            continue
        control, *stdio = descriptors
        pid = os.fork()
        if pid == 0:
            daemon.close()
            FakeKernel(spec, socket.socket(fileno=control), stdio).serve()
        for number in set(descriptors):
            os.close(number)
        send(daemon, {"ok": True, "pid": pid})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
