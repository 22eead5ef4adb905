"""What is run in both places. Every command's output is the same on every machine and run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A script for `bash -c`; `files` are put into /tmp beforehand."""

    name: str
    script: str
    stdin: bytes = b""
    slow: bool = False
    root: bool = False  # its native run needs more than one user id


SHELL = [
    Scenario(
        "pipeline", "seq 1 1000 | grep 7 | sort -rn | head -5 | tr '\\n' ' '; echo ${PIPESTATUS[@]}"
    ),
    Scenario("pipefail", "set -o pipefail; false | true; echo $?; true | (exit 3) | cat; echo $?"),
    Scenario("subshell", "x=1; (x=2; cd /etc; exit 4); echo $? $x $PWD; ( ( ( echo deep ) ) )"),
    Scenario(
        "here document", "cat <<E\nhome $HOME $((1+1))\nE\ncat <<'E'\n$HOME\nE\ncat <<<\"string\""
    ),
    Scenario(
        "substitution",
        "echo $(echo $(echo nested)) `echo old`; x=$(printf 'a\\n\\n\\n'); echo ${#x}; echo $(</etc/hostname | wc -c) >/dev/null",
    ),
    Scenario(
        "process substitution",
        "diff <(seq 1 5) <(seq 2 6); tee >(wc -c >/tmp/n) <<<hello >/dev/null; while [ ! -s /tmp/n ]; do :; done; cat /tmp/n",
    ),
    Scenario(
        "traps",
        "trap 'echo exiting $?' EXIT; trap 'echo usr1' USR1; trap 'echo err' ERR; kill -USR1 $$; false; (trap - EXIT; exit 2); exit 5",
    ),
    Scenario(
        "arrays",
        "a=(one two [5]=six); a+=(x); echo ${#a[@]} ${!a[@]} ${a[@]^^}; declare -A m=([k]=v); echo ${m[k]}",
    ),
    Scenario(
        "functions",
        'f() { local x=$1; ((x > 0)) && f $((x-1)); echo -n $x; return 7; }; f 30; echo " $?"',
    ),
    Scenario(
        "wait",
        "sleep 0.2 & a=$!; (exit 3) & b=$!; wait $b; echo $?; wait $a; echo $?; jobs; wait -n; echo $?",
    ),
    Scenario(
        "background",
        'for i in 1 2 3 4 5 6 7 8; do (exit $i) & p[i]=$!; done; for i in 1 2 3 4 5 6 7 8; do wait ${p[i]}; echo -n "$? "; done',
    ),
    Scenario(
        "coprocess", "coproc cat; echo through >&${COPROC[1]}; read x <&${COPROC[0]}; echo $x"
    ),
    Scenario(
        "redirection",
        "exec 3>/tmp/f; echo a >&3; exec 3>&-; { echo out; echo err >&2; } >>/tmp/f 2>&1; cat /tmp/f; echo x >&3",
    ),
    Scenario(
        "read loop",
        "n=0; while IFS=: read -r name _ uid _; do n=$((n+uid)); done </etc/passwd; echo $n",
    ),
    Scenario("stdin", 'read a b; echo "$b/$a"; cat | wc -l', b"first second\nthird\nfourth\n"),
    Scenario(
        "kill",
        "{ sleep 100 & kill $!; wait $!; echo $?; sh -c 'kill -9 $$'; echo $?; } 2>/tmp/jobs; grep -c Killed /tmp/jobs; kill -l 15",
    ),
    Scenario("nested shells", 'sh -c \'sh -c "sh -c \\"exit 9\\"; exit \\$?"; exit $?\'; echo $?'),
    Scenario("exec", "echo before; exec echo replaced; echo never"),
    Scenario(
        "not found",
        "no-such-command; echo $?; /etc; echo $?; ./nothing; echo $?; /etc/passwd; echo $?",
    ),
    Scenario(
        "big environment",
        "for i in $(seq 500); do export V$i=$(printf '%0200d' $i); done; env | grep -c '^V'; bash -c 'echo $V499'",
    ),
    Scenario(
        "many arguments",
        'set -- $(seq 20000); echo $#; /bin/echo "$@" | wc -c; printf \'%s\\n\' "$@" | md5sum',
    ),
    Scenario(
        "umask and modes",
        "umask 027; touch /tmp/f; mkdir /tmp/d; stat -c '%a' /tmp/f /tmp/d; umask",
    ),
    Scenario(
        "ulimit",
        "ulimit -c 0; ulimit -c; (ulimit -n 50; ulimit -n); ulimit -f 1; { dd if=/dev/zero of=/tmp/big bs=1k count=5; echo $?; } 2>/dev/null",
    ),
    Scenario(
        "times out",
        "timeout 0.3 sleep 10; echo $?; { timeout -s KILL 0.3 sleep 10; echo $?; } 2>/dev/null; timeout 5 true; echo $?",
    ),
]

COREUTILS = [
    Scenario(
        "find",
        "find / -xdev -not -path /.dockerenv -not -path '/tmp/*' -not -path '/proc*' -not -path '/sys*' -not -path '/dev*' -not -path '/mnt*' -not -path '/etc/*' -not -path '/var/tmp/*' -not -path '/var/cache/apt/*' 2>&1 | LC_ALL=C sort | md5sum",
        slow=True,
    ),
    Scenario(
        "find with types",
        "find /usr -xdev -type d | wc -l; find /usr -xdev -type l | wc -l; find /usr/bin -perm -4000 | LC_ALL=C sort; find / -xdev -name '*.so.6' 2>/dev/null | LC_ALL=C sort",
    ),
    Scenario(
        "find prints",
        "cd /usr/include; find . -name 's*.h' -printf '%p %s %m %y\\n' | LC_ALL=C sort | md5sum; find . -newer /nothing 2>&1 | head -1",
    ),
    Scenario(
        "ls",
        "ls -la /usr/lib/x86_64-linux-gnu | awk '{print $1, $2, $5, $9, $10, $11}' | LC_ALL=C sort | md5sum; ls -R /usr/share | md5sum",
    ),
    Scenario(
        "tar",
        "cd /usr/include && tar -cf - . | md5sum | wc -c; tar -cf /tmp/t.tar rdma linux && mkdir /tmp/x && tar -xf /tmp/t.tar -C /tmp/x && diff -r rdma /tmp/x/rdma && tar -tf /tmp/t.tar | LC_ALL=C sort | md5sum; gzip -k /tmp/t.tar && tar -tzf /tmp/t.tar.gz | wc -l",
    ),
    Scenario(
        "grep",
        "grep -r 'define EPERM' /usr/include | LC_ALL=C sort; grep -rlE 'sys(call|info)' /usr/include | LC_ALL=C sort | md5sum; grep -c . /etc/passwd; grep nothing /etc/passwd; echo $?",
    ),
    Scenario(
        "sort",
        "seq 200000 | sort -R --random-source=/etc/passwd | sort -n | md5sum; seq 50000 | shuf --random-source=/bin/ls | sort -S 200k -T /tmp | tail -2; ls /tmp",
    ),
    Scenario(
        "text",
        "cut -d: -f1,7 /etc/passwd | sed 's/root/ROOT/' | awk -F: '{n[$2]++} END {for (k in n) print n[k], k}' | LC_ALL=C sort; head -c 100 /etc/passwd | od -c | tail -3; uniq -c <(printf 'a\\na\\nb\\n'); comm <(seq 3) <(seq 2 4); paste <(seq 3) <(seq 4 6); join <(echo 1 a) <(echo 1 b); fold -w 5 <<<abcdefghij; expand <<<$'a\\tb'",
    ),
    Scenario(
        "sums",
        "cd /usr/bin; md5sum * 2>/dev/null | md5sum; sha256sum ls; cksum cat; b2sum head | cut -c1-20",
    ),
    Scenario(
        "copies",
        "cd /tmp; cp -a /usr/include/linux l1; cp -r l1 l2; diff -r l1 l2; cp --sparse=always l1/fs.h s; cmp s l1/fs.h; mv l1 l3; rm -rf l2; ln l3/fs.h hard; ln -s l3/fs.h soft; readlink -f soft; stat -c '%h %s' hard; du -s --apparent-size l3 | cut -f1; rmdir l3; rm -r l3; ls",
    ),
    Scenario(
        "files",
        "cd /tmp; dd if=/dev/zero of=z bs=64k count=33 2>&1 | head -2; truncate -s 1M t; stat -c '%s %b' t; split -b 500k z part; cat part* | cmp - z; wc -c part*; touch -d '2001-02-03 04:05:06 UTC' t; date -u -r t; chmod u=rwxs,go=x t; stat -c %A t; mkfifo p; (cat p > got &); echo through > p; sleep 0.2; cat got; mktemp -d /tmp/fixedXX >/dev/null; install -m 640 z i; stat -c %a i; realpath ../tmp/./z",
    ),
    Scenario(
        "identity",
        "id; whoami; groups; logname 2>&1; uname -s -m -o; nproc | grep -c .; arch; hostname; tty; printenv HOME; date -u -d @0; pwd -P; who; getent passwd root",
    ),
    Scenario(
        "environment tools",
        "env -i A=1 env; nice -n 5 nice; stdbuf -oL echo x; seq -s, 5; factor 1234567; expr 3 \\* 4; basename /a/b.c .c; dirname /a/b; numfmt --to=iec 123456; yes | head -3; tee /tmp/t <<<x; test -d /tmp -a -f /tmp/t && echo ok; nohup true 2>/dev/null; echo $?",
    ),
    Scenario(
        "procps",
        "ps -e -o comm= | LC_ALL=C sort | uniq -c | grep -E ' (ps|sort|uniq)$' | awk '{print $2}'; sleep 50 & until pgrep -x sleep >/dev/null; do :; done; pgrep -c sleep; pkill sleep; wait; ps -o pid= -p 1 | tr -d ' '; free -m | head -1; uptime | grep -c load; sysctl -n kernel.ostype; pidof bash",
    ),
    Scenario(
        "file",
        "file /bin/ls /etc/passwd /usr/bin/perl /dev/null /etc /usr/sbin/gosu | sed 's/, BuildID.*//; s/Go BuildID=[^,]*,//'",
    ),
    Scenario("less", "less /etc/passwd | head -2; echo x | less -F"),
    Scenario(
        "make",
        "cd /tmp; printf 'all: a b\\n\\t@echo all $^\\na b:\\n\\t@sleep 0.05; echo $@ > $@\\n' > Makefile; make -j4; make -q a; echo $?; rm a; make -s; make nothing 2>&1",
    ),
    Scenario(
        "xargs",
        "seq 1000 | xargs -n 10 -P 4 echo | sort -n | md5sum; find /etc -name '*.conf' -not -name resolv.conf -print0 | xargs -0 cat | wc -c; echo a b c | xargs -I{} echo [{}]",
    ),
    Scenario(
        "diff and patch",
        "cd /tmp; seq 10 > a; sed 's/5/five/' a > b; diff -u --label a --label b a b; cmp a b; diff -q a b",
    ),
]

PACKAGES = [
    Scenario(
        "dpkg -l",
        "dpkg -l | md5sum; dpkg -l | tail -2; dpkg -s bash | grep -E '^(Package|Status|Version)'; dpkg -L coreutils | md5sum; dpkg -S /bin/ls; dpkg --print-architecture; dpkg --audit; dpkg --compare-versions 1.0 lt 1.1; echo $?",
    ),
    Scenario("dpkg -V", "dpkg -V coreutils bash; echo $?"),
    Scenario(
        "build and install a package",
        "cd /tmp; mkdir -p p/DEBIAN p/usr/share/thing; echo data > p/usr/share/thing/file; printf 'Package: thing\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@y>\\nDescription: d\\n' > p/DEBIAN/control; printf '#!/bin/sh\\necho postinst $1\\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst; SOURCE_DATE_EPOCH=0 dpkg-deb --root-owner-group -b p thing.deb; dpkg-deb -c thing.deb | awk '{print $1,$2,$NF}'; dpkg -i thing.deb 2>&1 | grep -v '^(Reading'; cat /usr/share/thing/file; dpkg -s thing | grep Status; dpkg -P thing 2>&1 | grep -v '^(Reading'; ls /usr/share/thing 2>&1",
    ),
    Scenario(
        "apt",
        "apt-cache policy bash | head -2; apt-get -s install nothing-like-it 2>&1 | tail -1; apt-config dump | grep -c ::; apt list --installed 2>/dev/null | wc -l; apt-mark showmanual | head -3",
    ),
]

LANGUAGES = [
    Scenario(
        "perl",
        'perl -e \'print join(",", map { $_ ** 2 } grep { $_ % 2 } 1..20), "\\n"\'; perl -ne \'print if /root/\' /etc/passwd; perl -MPOSIX -e \'my $p = fork; if (!$p) { exit 5 } waitpid $p, 0; print $? >> 8, " ", WIFEXITED($?), "\\n"\'; perl -MDigest::MD5=md5_hex -e \'print md5_hex("x" x 1e6), "\\n"\'; perl -e \'open my $f, "|-", "sort" or die; print $f "b\\na\\n"; close $f; $SIG{ALRM} = sub { die "alarm\\n" }; alarm 1; eval { select undef, undef, undef, 5 }; print $@\'; perl -e \'die "bad\\n"\'; echo $?',
    ),
    Scenario(
        "python basics",
        "python3 -c pass; python3 -c 'import sys; print(sys.version_info[:2], sys.platform)'; python3 -c 'import json, re, decimal, hashlib, zlib; print(json.dumps({\"a\": [1, 2.5, None]}), hashlib.sha256(b\"x\").hexdigest()[:10], zlib.crc32(b\"hello\"), decimal.Decimal(1) / 3)'; echo 'print(\"from stdin\")' | python3; python3 -c 'raise SystemExit(6)'; echo $?; python3 -c '1/0'; echo $?",
    ),
    Scenario(
        "python threads",
        """python3 - <<'E'
import threading, queue, concurrent.futures
q = queue.Queue(); lock = threading.Lock(); total = 0
def work():
    global total
    while (n := q.get()) is not None:
        with lock: total += n
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for n in range(10000): q.put(n)
for t in threads: q.put(None)
for t in threads: t.join()
print(total, threading.active_count())
with concurrent.futures.ThreadPoolExecutor(16) as pool: print(sum(pool.map(lambda n: n * n, range(1000))))
e = threading.Event(); t = threading.Timer(0.05, e.set); t.start(); print(e.wait(5))
E""",
    ),
    Scenario(
        "python processes",
        """python3 - <<'E'
import subprocess, multiprocessing, os, signal
print(subprocess.run(['sh', '-c', 'cat; echo err >&2; exit 3'], input=b'in', capture_output=True))
p = subprocess.Popen(['sleep', '100']); p.terminate(); print(p.wait())
try: subprocess.run(['sleep', '10'], timeout=0.1)
except subprocess.TimeoutExpired: print('timed out')
try: subprocess.run(['/no/such'])
except FileNotFoundError as e: print(e)
with multiprocessing.get_context('fork').Pool(4) as pool: print(sum(pool.map(abs, range(-100, 100))))
r, w = os.pipe(); pid = os.fork()
if pid == 0: os.write(w, b'child'); os._exit(9)
print(os.read(r, 10), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
signal.signal(signal.SIGUSR1, lambda *a: print('handled')); os.kill(os.getpid(), signal.SIGUSR1)
print(subprocess.getoutput('echo $((2+2))'))
E""",
    ),
    Scenario(
        "python sockets",
        """python3 - <<'E'
import socket, threading, selectors, asyncio, socketserver, os, array
s = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]
def serve():
    c, a = s.accept()
    with c: data = c.recv(100); c.sendall(data.upper())
t = threading.Thread(target=serve); t.start()
with socket.create_connection(('127.0.0.1', port)) as c: c.sendall(b'hello'); print(c.recv(100))
t.join(); print(s.getsockname()[0])
a, b = socket.socketpair(); a.send(b'pair'); print(b.recv(10))
socket.send_fds(a, [b'x'], [os.open('/etc/hostname', os.O_RDONLY)]); m, fds, _, _ = socket.recv_fds(b, 10, 4); print(m, len(os.read(fds[0], 100)) > 0)
u = socket.socket(socket.AF_UNIX); u.bind('/tmp/sock'); u.listen(); v = socket.socket(socket.AF_UNIX); v.connect('/tmp/sock'); w, _ = u.accept(); v.send(b'unix'); print(w.recv(9), os.path.exists('/tmp/sock'))
async def main():
    async def echo(r, w): w.write(await r.readline()); await w.drain(); w.close()
    server = await asyncio.start_server(echo, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async def one(n):
        r, w = await asyncio.open_connection('127.0.0.1', port); w.write(b'%d\\n' % n); x = await r.read(); w.close(); return int(x)
    print(sum(await asyncio.gather(*(one(n) for n in range(50)))))
    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1); print(await p.communicate(b'async'))
asyncio.run(main())
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.bind(('127.0.0.1', 0)); d.sendto(b'self', d.getsockname()); print(d.recvfrom(10)[0])
E""",
    ),
    Scenario(
        "python memory",
        """python3 - <<'E'
import mmap, tempfile, os, multiprocessing.shared_memory as sm
with tempfile.TemporaryFile() as f:
    f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0); m[100:105] = b'hello'; m.flush(); f.seek(100); print(f.read(5)); m.resize(2 << 20); print(len(m), os.fstat(f.fileno()).st_size)
a = mmap.mmap(-1, 1 << 26); a[-1] = 7; print(a[-1]); pid = os.fork()
if pid == 0: a[0] = 9; os._exit(0)
os.waitpid(pid, 0); print(a[0])
x = bytearray(200 << 20); x[::4096] = b'x' * len(x[::4096]); print(len(x)); del x
E""",
    ),
    Scenario(
        "python files",
        """python3 - <<'E'
import os, shutil, pathlib, tempfile, glob, zipfile, tarfile, sqlite3, fcntl, stat
p = pathlib.Path('/tmp/tree'); p.mkdir()
for i in range(200): (p / f'{i:03}.txt').write_text('x' * i)
print(len(list(p.iterdir())), sum(f.stat().st_size for f in os.scandir(p)))
shutil.copytree(p, '/tmp/copy'); shutil.make_archive('/tmp/a', 'zip', p); print(len(zipfile.ZipFile('/tmp/a.zip').namelist()))
os.rename('/tmp/copy', '/tmp/moved'); shutil.rmtree('/tmp/moved'); print(os.path.exists('/tmp/moved'))
fd = os.open('/tmp/l', os.O_CREAT | os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX); print(os.fstat(fd).st_nlink)
db = sqlite3.connect('/tmp/db'); db.execute('create table t(a)'); db.executemany('insert into t values(?)', [(i,) for i in range(10000)]); db.commit(); print(db.execute('select sum(a), count(*) from t').fetchone())
os.symlink('/tmp/l', '/tmp/s'); print(os.readlink('/tmp/s'), stat.S_ISLNK(os.lstat('/tmp/s').st_mode), os.path.realpath('/tmp/s'))
print([hex(os.stat('/tmp/l').st_mode), os.access('/tmp/l', os.X_OK), os.getcwd(), len(os.listdir('/proc/self/fd')) > 3])
E""",
    ),
    Scenario(
        "gcc",
        """cd /tmp; cat > hello.c <<'E'
#include <stdio.h>
#include <pthread.h>
static void *run(void *x) { return x; }
int main(int c, char **v) { pthread_t t; void *r; pthread_create(&t, 0, run, (void *)42L); pthread_join(t, &r); printf("hello %ld %d\\n", (long)r, c); return 3; }
E
gcc -O2 -Wall -o hello hello.c && ./hello a b; echo $?; gcc -static -o static hello.c && ./static; file static | cut -d, -f1-4; gcc -c hello.c -o /tmp/h.o; nm h.o | grep -c T; ar rcs libh.a h.o; objdump -d hello | grep -c '<main>:'; echo 'int main( {' | gcc -x c - 2>&1 | head -3; musl-gcc -o m hello.c && ./m; echo $?; musl-gcc -static -o ms hello.c && ./ms; gcc -shared -fPIC -o libx.so hello.c && file libx.so | cut -d, -f1""",
        slow=True,
    ),
    Scenario(
        "git",
        """cd /tmp; export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1 HOME=/tmp
git config --global user.name N; git config --global user.email n@e; git config --global init.defaultBranch main
git init r; cd r; for i in $(seq 40); do echo $i > f$i; done; git add .; git commit -qm first; echo more >> f1; git commit -aqm second; git log --oneline; git status --short; git diff HEAD~ | cat
git checkout -qb side HEAD~; echo side > s; git add s; git commit -qm side; git merge -q main -m merged; git log --graph --oneline | cat; git gc -q; git fsck; cd ..; git clone -q r c; cd c; git rev-parse HEAD; git ls-files | wc -l; git stash list; git tag v1; git describe""",
    ),
    Scenario(
        "sqlite3",
        "cd /tmp; sqlite3 db 'create table t(a integer primary key, b text); with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x, hex(x) from c; create index i on t(b); select count(*), max(b), sum(length(b)) from t; pragma integrity_check;'; sqlite3 db 'pragma journal_mode=wal; insert into t(b) values(1); select count(*) from t'; sqlite3 db .schema; sqlite3 db 'select bad'; echo $?; sqlite3 :memory: 'select sqlite_version() is not null'",
    ),
    Scenario(
        "gosu",
        "gosu nobody id; gosu 1000:1000 sh -c 'id -u; id -g'; gosu root true; echo $?; gosu no-such-user true 2>&1; echo $?",
        root=True,
    ),
    Scenario(
        "go",
        "esbuild --version; echo 'let x: number = 1 + 2; console.log(x, ((a) => a * 2)(x))' | esbuild --loader=ts --minify; cd /tmp; echo 'import {a} from \"./b\"; console.log(a)' > m.js; echo 'export const a = 1' > b.js; esbuild m.js --bundle; echo 'let = ' | esbuild 2>&1 | head -3",
    ),
    Scenario(
        "busybox",
        "busybox sh -c 'echo static $((3*3)); ls / | head -2'; busybox tar -cf - /etc/passwd 2>/dev/null | busybox tar -tf -; busybox awk 'BEGIN {print 2^10}'; busybox wc -l /etc/passwd; busybox no-such; echo $?",
    ),
    Scenario(
        "awk and sed",
        'awk \'BEGIN {for (i = 0; i < 100000; i++) s += i * i; printf "%d\\n", s; "date -u -d @0 +%Y" | getline y; print y; print "x" | "cat"; close("cat"); exit 3}\'; echo $?; sed -n \'1~5p\' /etc/passwd | sed -E \'s/([^:]*):.*/\\1/\'; cp /etc/passwd /tmp/p; sed -i s/root/toor/ /tmp/p; head -1 /tmp/p',
    ),
]

ALL = SHELL + COREUTILS + PACKAGES + LANGUAGES
