"""Terminals beyond a prompt: job control, terminals made inside, resizing, much output."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

import pexpect
import pytest

from tests.docker.daemon import Daemon, eventually
from tests.docker.terminal import on_terminal

pytestmark = [pytest.mark.docker, pytest.mark.core]
PROMPT = "prompt> "
SHELLS = ("busybox", "dash", "bash")
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")
_LINES = 1 << 14


class Terminal:
    """The docker CLI on a terminal of 30 rows and 100 columns."""

    def __init__(self, docker: Daemon, words: tuple[str, ...]) -> None:
        self.child = on_terminal(docker, *words, rows=30, columns=100)

    def type(self, line: str) -> None:
        """Type a line and wait for its echo."""
        self.child.sendline(line)
        self.child.expect_exact(line + "\r\n")

    def until(self, text: str) -> str:
        """What is printed before `text`."""
        self.child.expect_exact(text)
        return _ESCAPES.sub("", str(self.child.before)).replace("\r", "")

    def __call__(self, line: str) -> str:
        """What a command prints."""
        self.type(line)
        return self.until(PROMPT)

    def key(self, letter: str) -> None:
        """Press control and a letter."""
        self.child.sendcontrol(letter)

    def ends(self) -> int:
        """Wait for the end of the CLI; its exit code."""
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return int(self.child.exitstatus)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(docker: Daemon) -> Iterator[Open]:
    opened = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(docker, words))
        return opened[-1]

    yield start
    for each in opened:
        with suppress(pexpect.ExceptionPexpect):
            each.child.close(force=True)


@pytest.fixture
def shell(terminal: Open, debian_image: str) -> Callable[[str], Terminal]:
    """Start an interactive shell of SHELLS in a container of its own."""

    def start(kind: str) -> Terminal:
        words = ["run", "--rm", "-it", "-e", f"PS1={PROMPT}"]
        words += {
            "busybox": ["busybox", "sh"],
            "dash": [debian_image, "dash", "-i"],
            "bash": [debian_image, "bash", "--norc"],
        }[kind]
        child = terminal(*words)
        greeting = child.until(PROMPT)
        assert "job control" not in greeting
        assert "process group" not in greeting
        return child

    return start


Shell = Callable[[str], Terminal]


@pytest.mark.parametrize("kind", SHELLS)
def test_a_pipeline_whose_first_process_has_ended(shell: Shell, kind: str) -> None:
    sh = shell(kind)
    for i in range(5):
        sh.type("true | sh -c 'read x </dev/tty; echo got $x'")
        sh.child.sendline(f"word{i}")
        assert f"got word{i}" in sh.until(PROMPT)
        sh.type("true | sh -c 'echo ready; exec sleep 1000'")
        sh.until("ready")
        sh.key("c")
        sh.until(PROMPT)
    sh.type("exit 6")
    assert sh.ends() == 6


@pytest.mark.parametrize("kind", SHELLS)
def test_background_reader_stops(shell: Shell, kind: str) -> None:
    sh = shell(kind)
    sh.type("cat &")
    sh.until(PROMPT)
    eventually(lambda: "Stopped" in sh("jobs"), "the reader has stopped")
    sh.type("fg")
    sh.child.sendline("line")
    sh.until("line\nline\n".replace("\n", "\r\n"))
    sh.key("d")
    sh.until(PROMPT)
    assert "cat" not in sh("jobs")


def test_background_writer_stops_only_with_tostop(shell: Shell) -> None:
    sh = shell("bash")
    assert "text" in sh("(echo text; echo >/tmp/done) & wait")
    sh("stty tostop")
    sh("(echo more) &")
    eventually(lambda: "Stopped" in sh("jobs"), "the writer has stopped")
    sh("stty -tostop")
    assert "more" in sh("fg")


def test_background_stty_stops_unless_it_ignores_sigttou(shell: Shell) -> None:
    sh = shell("bash")
    assert "ok 0" in sh("(trap '' TTOU; stty sane; echo ok $?) & wait")
    sh("(stty sane; echo changed $?) &")
    eventually(lambda: "Stopped" in sh("jobs"), "stty has stopped")
    assert "changed 0" in sh("fg")


@pytest.mark.parametrize("kind", SHELLS)
def test_stop_continue_interrupt(shell: Shell, kind: str) -> None:
    sh = shell(kind)
    sh.type("sh -c 'echo ready; exec sleep 1000'")
    sh.until("ready")
    sh.key("z")
    sh.until(PROMPT)
    assert "Stopped" in sh("jobs")
    sh("bg")
    assert "Running" in sh("jobs")
    sh("kill %1; wait")
    sh.type("cat")
    sh.child.sendline("before")
    sh.until("before\r\nbefore\r\n")
    sh.key("z")
    sh.until(PROMPT)
    sh.type("fg")
    sh.child.sendline("after")
    sh.until("after\r\nafter\r\n")  # now it is in front for certain
    sh.key("c")
    sh.until(PROMPT)
    assert sh("echo status $?") == "status 130\n"


def test_the_first_terminal_is_number_0(shell: Shell) -> None:
    sh = shell("bash")
    assert sh("tty") == "/dev/pts/0\n"
    assert sh("ls -x /dev/pts") == "0  ptmx\n"
    assert sh("readlink /proc/self/fd/0") == "/dev/pts/0\n"
    assert sh("stat -c '%t %T %G' /dev/console /dev/pts/0 -L") == "88 0 tty\n" * 2
    assert sh("ps -o tty= -p $$") == "pts/0\n"
    assert sh("echo here >/dev/tty") == "here\n"
    assert sh("setsid -w sh -c ': </dev/tty'").endswith("No such device or address\n")


def test_terminals_made_inside(shell: Shell) -> None:
    sh = shell("bash")
    assert sh("script -qc 'tty; ls -x /dev/pts' /dev/null") == "/dev/pts/1\n0  1  ptmx\n"
    spawn = """python3 -c 'import pty; pty.spawn(["tty"])'"""
    assert sh(spawn) == "/dev/pts/1\n"
    assert sh("ls -x /dev/pts") == "0  ptmx\n"
    assert sh("script -qec 'exit 3' /dev/null; echo status $?") == "status 3\n"


def test_resize_reaches_the_shell(shell: Shell) -> None:
    sh = shell("bash")
    assert sh("shopt -s checkwinsize; stty size") == "30 100\n"
    sh.child.setwinsize(50, 132)
    eventually(lambda: sh("stty size") == "50 132\n", "the new size")
    assert sh("echo $LINES $COLUMNS") == "50 132\n"


def test_the_size_is_there_from_the_start(terminal: Open) -> None:
    child = terminal("run", "--rm", "-it", "busybox", "stty", "size")
    assert child.until("\r\n") == "30 100"
    assert child.ends() == 0


def test_exec_has_a_terminal_of_its_own(docker: Daemon, terminal: Open, debian_image: str) -> None:
    docker("run", "-dt", "--name", "box", debian_image, "sleep", "1000")
    try:
        child = terminal("exec", "-it", "-e", f"PS1={PROMPT}", "box", "bash", "--norc")
        assert child.until(PROMPT) == ""
        assert child("tty; stty size") == "/dev/pts/1\n30 100\n"
        child.child.setwinsize(20, 60)
        eventually(lambda: child("stty size") == "20 60\n", "the new size")
        other = terminal("exec", "-it", "box", "tty")
        assert other.until("\r\n") == "/dev/pts/2"
        assert other.ends() == 0
        child.type("sh -c 'echo ready; exec sleep 1000'")
        child.until("ready")
        child.key("c")
        child.until(PROMPT)
        child.type("exit 5")
        assert child.ends() == 5
    finally:
        docker("rm -f box")


def test_a_job_left_stopped_ends_with_its_session(
    docker: Daemon, terminal: Open, debian_image: str
) -> None:
    """The group is orphaned: SIGHUP and SIGCONT (setpgid(2))."""
    docker("run", "-d", "--name", "box", debian_image, "sleep", "1000")
    try:
        child = terminal("exec", "-it", "-e", f"PS1={PROMPT}", "box", "dash", "-i")
        child.until(PROMPT)
        child.type("sh -c 'echo ready; exec sleep 999'")
        child.until("ready")
        child.key("z")
        child.until(PROMPT)
        assert "Stopped" in child("jobs")
        child.type("exec true")
        assert child.ends() == 0
        eventually(lambda: "sleep 999" not in docker("exec box ps ax").stdout, "the job's end")
    finally:
        docker("rm -f box")


def test_removal_ends_the_client(docker: Daemon, terminal: Open) -> None:
    child = terminal("run", "-it", "--name", "doomed", "-e", f"PS1={PROMPT}", "busybox", "sh")
    child.until(PROMPT)
    docker("rm -f doomed")
    assert child.ends() == 137


def test_a_megabyte_arrives_whole(docker: Daemon) -> None:
    script = f"seq -w 1 {_LINES * 11}"
    done = docker("run", "--rm", "-t", "busybox", "sh", "-c", script)
    assert done.status == 0
    assert done.stdout == "".join(f"{i:06d}\r\n" for i in range(1, _LINES * 11 + 1))


def test_nothing_is_lost_at_exit(docker: Daemon) -> None:
    for i in range(10):
        done = docker("run", "--rm", "-t", "busybox", "echo", f"last words {i}")
        assert done.stdout == f"last words {i}\r\n"


def test_vi(docker: Daemon, terminal: Open) -> None:
    child = terminal("run", "-it", "--name", "editor", "busybox", "vi", "/tmp/file")
    try:
        child.child.expect(re.compile(r"(~.*){20}", re.DOTALL))
        child.child.send("itext")
        child.until("text")
        child.key("c")  # leaves insert mode without the wait for the rest of an escape sequence
        child.child.send(":wq\r")
        assert child.ends() == 0
        assert "text" in docker("cp editor:/tmp/file -").stdout
    finally:
        docker("rm -f editor")
