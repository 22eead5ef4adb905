"""Whole arm64 programs: what they print does not depend on the instruction set.

The oracle is the x86_64 Debian tree's native run of the same script, where the two trees hold the
same data; scripts whose output tells the architecture have it written down here. The arm64 tree is
unpacked and not configured, so scripts that need what maintainer scripts make are left out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.host import engines
from tests.docker.daemon import Daemon
from tests.images import debian, native
from tests.scenarios.commands import ALL, Scenario

REASON = native.available() or ("" if engines.find("arm64") else "no engine for arm64 guests")
pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(REASON), reason=f"NO ORACLE: {REASON}"),
]
HOSTNAME = "scenario"
# Scenarios of commands.py that only read what both trees have alike.
SHARED = """
pipeline; pipefail; subshell; here document; process substitution; traps; arrays; functions; wait;
background; coprocess; redirection; stdin; kill; nested shells; exec; big environment;
many arguments; umask and modes; ulimit; times out; python threads; python processes;
python sockets; python memory; python files
"""
# Parts of others, and what only this tree needs.
OWN = [
    Scenario(
        "find",
        "mkdir -p /tmp/t/{a,b,c}/{1,2,3}; touch /tmp/t/{a,b}/{1,2}/f{1..20}.x; cd /tmp/t; "
        "find . -type f -name 'f1*' | LC_ALL=C sort | md5sum; find . -type d -printf '%p %y\\n' "
        "| LC_ALL=C sort; find . -empty | wc -l; find . -name '*.x' -exec rm {} + ; "
        "find . -type f | wc -l",
    ),
    Scenario(
        "tar",
        "mkdir /tmp/d; cd /tmp/d; for i in $(seq 30); do seq $i > f$i; done; ln f1 hard; "
        "ln -s f2 soft; tar -cf ../t.tar .; mkdir ../x; tar -xf ../t.tar -C ../x; "
        "diff -r . ../x; stat -c %h ../x/hard; readlink ../x/soft; gzip -9 ../t.tar; "
        "tar -tzf ../t.tar.gz | LC_ALL=C sort | md5sum; gunzip -c ../t.tar.gz | tar -xO ./f7",
    ),
    Scenario(
        "grep",
        "mkdir -p /tmp/g/{a,b}; for i in $(seq 50); do echo line $i needle$((i%7)) > "
        "/tmp/g/a/$i; done; cd /tmp/g; grep -r needle3 . | LC_ALL=C sort; grep -rlE 'needle[12]' "
        ". | wc -l; grep -c . a/1; grep nothing a/1; echo $?; grep -oP 'needle\\d' a/5",
    ),
    Scenario(
        "sort and sums",
        "seq 20000 | sort -R --random-source=/dev/zero | sort -n | md5sum; seq 20000 | sort -S 100k"
        " -T /tmp -r | tail -2; seq 1000 | sha256sum; seq 1000 | cksum; ls /tmp",
    ),
    Scenario(
        "sed and awk",
        "seq 20 | sed -n '1~5p' | sed -E 's/([0-9]+)/<\\1>/'; seq 9 > /tmp/p; sed -i s/5/five/ "
        "/tmp/p; sed -n 5p /tmp/p; awk 'BEGIN {for (i = 0; i < 100000; i++) s += i; print s; "
        'print "x" | "cat"; close("cat"); exit 3}\'; echo $?',
    ),
    Scenario(
        "perl",
        'perl -e \'print join(",", map { $_ ** 2 } grep { $_ % 2 } 1..20), "\\n"\'; perl -e '
        "'my $p = fork; if (!$p) { exit 5 } waitpid $p, 0; print $? >> 8, \"\\n\"'; perl -e 'open "
        'my $f, "|-", "sort" or die; print $f "b\\na\\n"; close $f; $SIG{ALRM} = sub { die '
        '"alarm\\n" }; alarm 1; eval { select undef, undef, undef, 5 }; print $@\'; '
        "perl -e 'die \"bad\\n\"'; echo $?",
    ),
    Scenario(
        "sqlite3",
        "cd /tmp; sqlite3 db 'create table t(a integer primary key, b text); with recursive c(x) "
        "as (select 1 union all select x+1 from c where x<5000) insert into t select x, hex(x) "
        "from c; create index i on t(b); select count(*), max(b), sum(length(b)) from t; pragma "
        "integrity_check;'; sqlite3 db 'pragma journal_mode=wal; insert into t(b) values(1); "
        "select count(*) from t'; sqlite3 db 'select bad'; echo $?",
    ),
    Scenario(
        "xargs",
        "seq 200 | xargs -n 10 -P 4 echo | sort -n | md5sum; echo a b c | xargs -I{} echo [{}]",
    ),
]
# Script, and the output on arm64.
TOLD = {
    "uname -sm": "Linux aarch64\n",
    "dpkg --print-architecture": "arm64\n",
    "dpkg -l bash | tail -1 | tr -s ' ' | cut -d' ' -f1,4": "iU arm64\n",
    "python3 -c 'import platform; print(platform.machine(), platform.architecture()[0])'": (
        "aarch64 64bit\n"
    ),
    "dpkg -L hostname | head -2; dpkg --compare-versions 1.0 lt 1.1; echo $?": "/.\n/usr/bin\n0\n",
}


def _shared() -> list[Scenario]:
    names = {" ".join(name.split()) for name in SHARED.split(";")}
    chosen = [scenario for scenario in ALL if scenario.name in names]
    assert {scenario.name for scenario in chosen} == names
    return chosen


@pytest.fixture
def oracle(tmp_path: Path) -> native.Native:
    """The x86_64 tree, of which scripts change /tmp only."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    scratch.chmod(0o1777)
    return native.Native(debian.tree(), scratch, HOSTNAME)


@pytest.mark.parametrize("scenario", [*_shared(), *OWN], ids=lambda scenario: scenario.name)
def test_an_arm64_container_does_what_an_x86_64_chroot_does(
    docker: Daemon, arm64_debian: str, oracle: native.Native, scenario: Scenario
) -> None:
    command = ["bash", "-c", scenario.script]
    expected = oracle.run(command, stdin=scenario.stdin, timeout=110)
    words = ["run", "--rm", "-i", "--platform", "linux/arm64", "--hostname", HOSTNAME]
    got = docker(*words, arm64_debian, *command, stdin=scenario.stdin, timeout=180)
    assert got.stdout == expected.stdout.decode(errors="surrogateescape")
    assert got.stderr == expected.stderr.decode(errors="surrogateescape")
    assert got.status == expected.status


@pytest.mark.parametrize("script", TOLD)
def test_an_arm64_container_says_what_it_is(docker: Daemon, arm64_debian: str, script: str) -> None:
    words = ["run", "--rm", "--platform", "linux/arm64", arm64_debian, "bash", "-c", script]
    assert docker(*words) == (TOLD[script], "", 0)
