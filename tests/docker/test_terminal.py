"""`docker run -it` on a real pseudo-terminal, typed by pexpect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pexpect
import pytest

from tests.docker.daemon import Daemon
from tests.docker.terminal import on_terminal

pytestmark = [pytest.mark.docker, pytest.mark.core]
PROMPT = "prompt> "
Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def spawn(docker: Daemon) -> Iterator[Spawn]:
    """Start the CLI on a terminal of 24 rows and 80 columns."""
    started = []

    def start(*words: str) -> pexpect.spawn[str]:
        child = on_terminal(docker, *words)
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


@pytest.fixture
def shell(spawn: Spawn) -> pexpect.spawn[str]:
    """An interactive busybox shell at its prompt."""
    child = spawn("run", "--rm", "-it", "-e", f"PS1={PROMPT}", "busybox", "sh")
    child.expect_exact(PROMPT)
    return child


@pytest.fixture
def bash(spawn: Spawn, debian_image: str) -> pexpect.spawn[str]:
    """An interactive bash at its prompt."""
    # A dumb terminal: no bracketed paste, no colours between what is compared.
    environment = ("-e", f"PS1={PROMPT}", "-e", "TERM=dumb")
    child = spawn("run", "--rm", "-it", *environment, debian_image, "bash", "--norc")
    child.expect_exact(PROMPT)
    return child


def ask(child: pexpect.spawn[str], line: str) -> str:
    """Type a line; return what the program printed."""
    child.sendline(line)
    child.expect_exact(PROMPT)
    echo, _, answer = str(child.before).replace("\r", "").partition("\n")
    assert echo.endswith(line)
    return answer


def ends(child: pexpect.spawn[str], status: int) -> None:
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == status


def test_prompt_answers_and_exit_code(shell: pexpect.spawn[str]) -> None:
    assert ask(shell, "echo $((6 * 7))") == "42\n"
    assert ask(shell, "tty") == "/dev/pts/0\n" or ask(shell, "tty").startswith("/dev/")
    assert ask(shell, "test -t 0 && test -t 1 && test -t 2 && echo terminal") == "terminal\n"
    shell.sendline("exit 7")
    ends(shell, 7)


def test_stdout_and_stderr_share_the_terminal(shell: pexpect.spawn[str]) -> None:
    assert ask(shell, "ls /no-such-file") == "ls: /no-such-file: No such file or directory\n"
    shell.sendline("exit")
    ends(shell, 1)


def test_interrupt_ends_the_command_not_the_shell(bash: pexpect.spawn[str]) -> None:
    bash.sendline("sh -c 'echo started; exec sleep 1000'")
    bash.expect_exact("\nstarted\r\n")
    bash.sendintr()
    bash.expect_exact(PROMPT)
    assert ask(bash, "echo status $?") == "status 130\n"
    bash.sendline("exit 3")
    ends(bash, 3)


def test_end_of_file_leaves(shell: pexpect.spawn[str]) -> None:
    shell.sendeof()
    ends(shell, 0)


def test_job_control(bash: pexpect.spawn[str]) -> None:
    assert "no job control" not in str(bash.before)
    bash.sendline("cat")
    bash.expect_exact("cat")
    bash.sendline("before")
    bash.expect_exact("before\r\nbefore\r\n")
    bash.sendcontrol("z")
    bash.expect_exact("Stopped")
    bash.expect_exact(PROMPT)
    assert "cat" in ask(bash, "jobs")
    bash.sendline("fg")
    bash.expect_exact("cat\r\n")
    bash.sendline("after")
    bash.expect_exact("after\r\nafter\r\n")
    bash.sendeof()
    bash.expect_exact(PROMPT)
    assert ask(bash, "sleep 1000 &").startswith("[1]")
    assert "sleep" in ask(bash, "kill %1; wait; jobs; echo sleep gone")
    assert ask(bash, "ls / | head -1 | cat") != ""
    bash.sendline("exit")
    ends(bash, 0)


def test_stty_sees_and_changes_the_terminal(bash: pexpect.spawn[str]) -> None:
    assert ask(bash, "stty size") == "24 80\n"
    assert "intr = ^C" in ask(bash, "stty -a")
    bash.sendline("stty -echo")
    bash.expect_exact(PROMPT)
    bash.sendline("echo quiet")
    bash.expect_exact("quiet\r\n" + PROMPT)
    assert "echo quiet" not in str(bash.before)
    bash.sendline("stty echo")
    bash.expect_exact(PROMPT)
    assert ask(bash, "echo loud") == "loud\n"
    bash.sendline("exit")
    ends(bash, 0)


def test_resize(bash: pexpect.spawn[str]) -> None:
    bash.sendline(
        "sh -c 'trap \"stty size; exit 4\" WINCH; echo set; while :; do sleep 0.05; done'"
    )
    bash.expect_exact("\nset\r\n")
    bash.setwinsize(50, 132)
    bash.expect_exact("50 132\r\n")
    bash.expect_exact(PROMPT)
    bash.sendline("exit $?")
    ends(bash, 4)


def test_line_editing_and_history(bash: pexpect.spawn[str]) -> None:
    assert ask(bash, "echo first") == "first\n"
    bash.send("\x1b[A")  # up
    bash.expect_exact("echo first")
    bash.send(" again\r")
    bash.expect_exact("first again\r\n" + PROMPT)
    bash.send("echo wrogn\x7f\x7fng\r")
    bash.expect_exact("wrong\r\n" + PROMPT)
    bash.sendline("exit")
    ends(bash, 0)


def test_detach_and_attach(docker: Daemon, spawn: Spawn) -> None:
    first = spawn("run", "-it", "--name", "session", "-e", f"PS1={PROMPT}", "busybox", "sh")
    first.expect_exact(PROMPT)
    ask(first, "variable=kept")
    first.send("\x10\x11")  # ctrl-p ctrl-q
    first.expect(pexpect.EOF)
    assert docker("inspect -f {{.State.Running}} session").stdout == "true\n"
    second = spawn("attach", "session")
    second.sendline("echo $variable")
    second.expect_exact("kept")
    second.sendline("exit 4")
    second.expect(pexpect.EOF)
    second.wait()
    assert second.exitstatus == 4


def test_exec_on_a_terminal(docker: Daemon, spawn: Spawn) -> None:
    docker("run -d --name box busybox sleep 1000")
    child = spawn("exec", "-it", "-e", f"PS1={PROMPT}", "box", "sh")
    child.expect_exact(PROMPT)
    assert ask(child, "stty size") == "24 80\n"
    assert ask(child, "cat /proc/1/comm") == "sleep\n"
    child.sendline("exit 5")
    ends(child, 5)


def test_a_terminal_without_a_client(docker: Daemon) -> None:
    docker("run -dt --name alone busybox sh -c 'test -t 1 && echo on a terminal'")
    assert docker("wait alone").stdout == "0\n"
    assert docker("logs alone").stdout == "on a terminal\r\n"


def test_a_full_screen_program(bash: pexpect.spawn[str]) -> None:
    bash.sendline("seq 1 500 > /tmp/lines; TERM=vt100 less /tmp/lines")
    bash.expect_exact("23\r\n")
    bash.send("G")
    bash.expect_exact("500")
    bash.send("q")
    bash.expect_exact(PROMPT)
    bash.sendline("exit")
    ends(bash, 0)
