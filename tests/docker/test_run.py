"""`docker run` in the foreground: output, exit codes, and every flag that shapes the process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon, Outcome, eventually

pytestmark = [pytest.mark.docker, pytest.mark.core]


def test_the_greeting(docker: Daemon) -> None:
    assert docker("run --rm busybox sh -c 'echo hi; exit 3'") == Outcome("hi\n", "", 3)


def test_streams_are_kept_apart(docker: Daemon) -> None:
    script = "echo out; echo err >&2; echo more"
    assert docker("run", "--rm", "busybox", "sh", "-c", script) == Outcome(
        "out\nmore\n", "err\n", 0
    )


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_the_exit_code_is_the_program_s(docker: Daemon, code: int) -> None:
    assert docker(f"run --rm busybox sh -c 'exit {code}'").status == code


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
def test_death_by_a_signal_is_128_and_the_number(docker: Daemon, name: str, number: int) -> None:
    # Through a child: the first process of a pid namespace ignores what it does not handle.
    script = f"sh -c 'kill -{name} $$'; exit $?"
    assert docker("run", "--rm", "busybox", "sh", "-c", script).status == 128 + number


def test_stdin_reaches_the_program_and_ends(docker: Daemon) -> None:
    text = b"line one\nline two\n" * 1000
    assert docker("run -i --rm busybox md5sum", stdin=text) == docker(
        "run -i --rm busybox sh -c 'cat | md5sum'", stdin=text
    )
    assert docker("run -i --rm busybox wc -c", stdin=text).stdout.split()[0] == str(len(text))


def test_without_i_stdin_is_empty(docker: Daemon) -> None:
    assert docker("run --rm busybox cat", stdin=b"not passed on") == Outcome("", "", 0)


def test_binary_data_passes_unchanged(docker: Daemon) -> None:
    data = bytes(range(256)) * 4096
    done = docker("run -i --rm busybox sh -c 'cat; echo -n end >&2'", stdin=data)
    assert done.stdout.encode(errors="surrogateescape") == data
    assert done.stderr == "end"


def test_large_output_is_complete(docker: Daemon) -> None:
    done = docker("run", "--rm", "busybox", "sh", "-c", "seq 1 200000")
    assert done.status == 0
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001))


def test_environment(docker: Daemon) -> None:
    done = docker(
        "run", "--rm", "-e", "A=1", "-e", "B=two words", "-e", "A=last", "-e", "FROM_CLIENT",
        "busybox", "env", environment={"FROM_CLIENT": "yes"},
    )  # fmt: skip
    lines = set(done.stdout.splitlines())
    assert {"A=last", "B=two words", "FROM_CLIENT=yes", "HOME=/root"} <= lines
    assert "A=1" not in lines
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    assert any(line.startswith("HOSTNAME=") for line in lines)


def test_working_directory_is_made_when_missing(docker: Daemon) -> None:
    assert docker("run --rm -w /made/for/it busybox pwd") == Outcome("/made/for/it\n", "", 0)


def test_hostname(docker: Daemon) -> None:
    script = "hostname; cat /etc/hostname; uname -n; echo $HOSTNAME; grep -c lively /etc/hosts"
    done = docker("run", "--rm", "--hostname", "lively", "busybox", "sh", "-c", script)
    assert done == Outcome("lively\nlively\nlively\nlively\n1\n", "", 0)


def test_the_default_hostname_is_the_short_id(docker: Daemon) -> None:
    done = docker("run", "--name", "named", "busybox", "hostname")
    assert docker("inspect -f {{.Id}} named").stdout[:12] == done.stdout.strip()


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("1000", "uid=1000 gid=0"),
        ("1000:2000", "uid=1000 gid=2000"),
        ("root", "uid=0(root) gid=0(root)"),
    ],
)
def test_user(docker: Daemon, user: str, shown: str) -> None:
    done = docker("run", "--rm", "-u", user, "busybox", "id")
    assert done.stdout.startswith(shown.split(maxsplit=1)[0])
    assert shown.split()[1].removeprefix("gid=").split("(")[0] in done.stdout


def test_a_user_may_not_write_what_is_root_s(docker: Daemon) -> None:
    script = "touch /etc/x; echo $?; touch /tmp/x && stat -c %u:%g /tmp/x"
    done = docker("run", "--rm", "-u", "1000:2000", "busybox", "sh", "-c", script)
    assert done.stdout == "1\n1000:2000\n"
    assert "Permission denied" in done.stderr


def test_entrypoint(docker: Daemon) -> None:
    done = docker("run", "--rm", "--entrypoint", "echo", "busybox", "instead", "of sh")
    assert done == Outcome("instead of sh\n", "", 0)


def test_a_program_is_found_in_the_container_s_path(docker: Daemon) -> None:
    assert docker("run --rm -e PATH=/bin busybox echo found").stdout == "found\n"
    done = docker("run --rm -e PATH=/nowhere busybox echo found")
    assert done.status == 127


def test_bind_mount_shows_and_changes_the_host_s_files(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("host text\n")
    script = "cat /data/from-host; echo guest text > /data/from-guest; mkdir /data/dir; ls /data"
    done = docker("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", script)
    assert done == Outcome("host text\ndir\nfrom-guest\nfrom-host\n", "", 0)
    assert (tmp_path / "from-guest").read_text() == "guest text\n"
    assert (tmp_path / "dir").is_dir()


def test_read_only_bind_mount(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept\n")
    script = "cat /data/file; echo x > /data/file; rm /data/file; mkdir /data/d; exit 0"
    done = docker("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "sh", "-c", script)
    assert done.stdout == "kept\n"
    assert done.stderr.count("Read-only file system") == 3
    assert (tmp_path / "file").read_text() == "kept\n"


def test_single_file_bind_mount(docker: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("one file\n")
    done = docker("run", "--rm", "-v", f"{file}:/etc/one", "busybox", "cat", "/etc/one")
    assert done == Outcome("one file\n", "", 0)


def test_dotdot_out_of_a_bind_mount_stays_inside(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_text("host only\n")
    script = "cd /data; ls ..; cat ../secret; cat /data/../secret; ls /data/../etc > /dev/null"
    done = docker("run", "--rm", "-v", f"{tmp_path / 'inner'}:/data", "busybox", "sh", "-c", script)
    assert "host only" not in done.stdout
    assert "bin" in done.stdout.split()


def test_a_symlink_in_a_bind_mount_cannot_reach_the_host(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("host only\n")
    (tmp_path / "mine" / "absolute").symlink_to(outside)
    (tmp_path / "mine" / "relative").symlink_to("../outside")
    (tmp_path / "mine" / "etc").symlink_to("/etc")
    script = "cat /data/absolute /data/relative; ls /data/etc/passwd"
    done = docker("run", "--rm", "-v", f"{tmp_path / 'mine'}:/data", "busybox", "sh", "-c", script)
    assert "host only" not in done.stdout
    assert "/data/etc/passwd" in done.stdout


def test_tmpfs(docker: Daemon) -> None:
    script = (
        "echo x > /scratch/f && cat /scratch/f && grep ' /scratch ' /proc/mounts | cut -d' ' -f3"
    )
    done = docker("run", "--rm", "--tmpfs", "/scratch", "busybox", "sh", "-c", script)
    assert done == Outcome("x\ntmpfs\n", "", 0)


def test_read_only_root(docker: Daemon) -> None:
    done = docker("run", "--rm", "--read-only", "busybox", "sh", "-c", "echo x > /file; echo $?")
    assert done.stdout == "1\n"
    assert "Read-only file system" in done.stderr


def test_each_run_starts_from_the_image(docker: Daemon) -> None:
    assert docker("run --rm busybox sh -c 'echo changed > /etc/passwd; rm /bin/ls'").status == 0
    done = docker("run --rm busybox sh -c 'grep -c root /etc/passwd; ls /bin/ls'")
    assert done == Outcome("1\n/bin/ls\n", "", 0)


def test_pid_1_and_its_view(docker: Daemon) -> None:
    script = (
        "echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/1/comm;"
        " sleep 100 & kill $!; wait $!; echo $?"
    )
    done = docker("run", "--rm", "busybox", "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert lines[0] == "1"
    assert int(lines[1]) <= 4
    assert lines[2:] == ["sh", "143"]


def test_ulimit(docker: Daemon) -> None:
    done = docker("run --rm --ulimit nofile=123:456 busybox sh -c 'ulimit -Sn; ulimit -Hn'")
    assert done == Outcome("123\n456\n", "", 0)


def test_extra_hosts_and_loopback(docker: Daemon) -> None:
    script = "grep -c '10.1.2.3.*friend' /etc/hosts; grep -c localhost /etc/hosts"
    done = docker("run", "--rm", "--add-host", "friend:10.1.2.3", "busybox", "sh", "-c", script)
    assert done.stdout.splitlines()[0] == "1"
    assert int(done.stdout.splitlines()[1]) >= 1


def test_loopback_is_private_to_the_container(docker: Daemon) -> None:
    script = (
        "nc -l -p 4567 > /dev/null & for i in $(seq 100); do"
        " echo x | nc 127.0.0.1 4567 && exit 0; done; exit 1"
    )
    assert docker("run", "--rm", "busybox", "sh", "-c", script).status == 0
    # The same port is free in the next one, and on the host.
    assert docker("run", "--rm", "busybox", "sh", "-c", script).status == 0


def test_a_thousand_fork_execs_in_a_shell_loop(docker: Daemon) -> None:
    script = "i=0; while [ $i -lt 1000 ]; do /bin/true || exit 1; i=$((i+1)); done; echo $i"
    # A path with a slash is executed, not run as an applet.
    assert docker("run", "--rm", "busybox", "sh", "-c", script) == Outcome("1000\n", "", 0)


def test_orphans_end_with_the_container(docker: Daemon) -> None:
    started = time.monotonic()
    assert docker("run --rm busybox sh -c 'sleep 1000 & sleep 1000 & exit 7'").status == 7
    assert time.monotonic() - started < 30


def test_output_after_the_first_process_ended_does_not_hang_the_client(docker: Daemon) -> None:
    # A grandchild holds the pipe open; the kernel kills it when pid 1 ends.
    done = docker("run --rm busybox sh -c '(sleep 500; echo late) & echo early'")
    assert done == Outcome("early\n", "", 0)


def test_a_closed_client_ends_nothing_but_itself(docker: Daemon) -> None:
    client = docker.popen("run", "--name", "orphaned", "busybox", "sleep", "1000")
    while "orphaned" not in docker("ps --format {{.Names}}").stdout:
        os.sched_yield()
    client.kill()
    client.wait()
    assert docker("inspect -f {{.State.Running}} orphaned").stdout == "true\n"


def test_cidfile_and_labels(docker: Daemon, tmp_path: Path) -> None:
    cidfile = tmp_path / "cid"
    done = docker(
        "run", "--cidfile", str(cidfile), "-l", "a=b", "--name", "labelled", "busybox", "true"
    )
    assert done.status == 0
    shown = docker("inspect -f '{{.Id}} {{index .Config.Labels \"a\"}}' labelled").stdout.split()
    assert shown == [cidfile.read_text(), "b"]


@pytest.mark.parametrize(("option", "zombies"), [([], True), (["--init"], False)])
def test_init_waits_for_orphans(docker: Daemon, option: list[str], zombies: bool) -> None:
    """PID 1 is a sleep, which waits for nobody."""
    script = "(sh -c 'sleep 0.2; exit 3' &) ; exec sleep 1000"
    docker("run", "-d", *option, "--name", "box", "busybox", "sh", "-c", script)
    try:

        def ended() -> bool:
            states = docker("exec box ps -o pid,stat,args").stdout
            return "exit 3" not in states and (" Z " in states) is zombies

        eventually(ended, "the orphan's end")
    finally:
        docker("rm -f box")


def test_init_passes_signals_on(docker: Daemon) -> None:
    """Without a handler SIGTERM ends the command, as it does not end a PID 1."""
    docker("run", "-d", "--init", "--name", "box", "busybox", "sleep", "1000")
    try:
        assert docker("stop -t 20 box").status == 0
        assert docker("wait box").stdout == "143\n"
    finally:
        docker("rm -f box")
