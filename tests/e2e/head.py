#!/usr/bin/env python3
"""The head's end of a leash (common/leash.h), for tests: what a lease does and does not.
  head.py SCENARIO [WORD...]     WORD...: the command that lends; default: bertctl lease of a host without bertd
Exit 0 where all is as it should be."""
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

BERTCTL = os.environ.get("BERTCTL", "bertctl")
TIMEOUT = 8
PATIENCE = int(os.environ.get("TEST_PATIENCE", "2"))
COMMAND = sys.argv[2:] or [BERTCTL, "lease", "--unmanaged"]
LEASE = ["--of", "h1:42", "--attempt", "3", "--name", "bert", "--host-timeout", str(TIMEOUT)]


class Head:
    def __init__(self, beats=True, environment=None, extra=(), take=True):
        self.lines, self.raw, self.news, self.beats, self.reads = [], [], queue.Queue(), beats, threading.Event()
        self.reads.set()
        self.p = subprocess.Popen([*COMMAND, *LEASE, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        if take:
            self.get("host")
            self.put(type="take")
            self.granted = self.get("granted")

    def _read(self):
        for line in self.p.stdout:
            self.reads.wait()
            try:
                value = json.loads(line)
            except ValueError:
                value = {"type": "noise", "text": line}
            value["at"] = time.monotonic()
            self.lines.append(value)
            self.news.put(value)
        self.news.put(None)

    def _beat(self):
        while self.p.poll() is None:
            time.sleep(1)
            if self.beats:
                try:
                    self.put(type="beat")
                except OSError:
                    return

    def put(self, **line):
        self.write((json.dumps(line) + "\n").encode())

    def write(self, data):
        self.p.stdin.write(data)
        self.p.stdin.flush()

    def get(self, kind, limit=20, **match):
        end = time.monotonic() + limit * PATIENCE
        while (left := end - time.monotonic()) > 0:
            try:
                line = self.news.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if line["type"] == kind and all(line.get(k) == v for k, v in match.items()):
                return line
        raise AssertionError(f"no {kind} {match}; last lines: {self.lines[-5:]}")

    def run(self, ident, line, **environment):
        self.put(type="run", id=ident, line=line, environment=environment)

    def output(self, ident, stream=1):
        return b"".join(x["text"].encode("latin-1") for x in self.lines if x["type"] == "output" and x["id"] == ident and x["stream"] == stream)

    def kinds(self):
        return [x["type"] for x in self.lines if x["type"] not in ("beat", "output")]

    def leash(self):
        """Its pid: bertctl has become it, or it is a child of the lease's shim."""
        return self.p.pid

    def ended(self, limit=5):
        """Seconds until the channel is closed and its process has ended."""
        begin = time.monotonic()
        self.p.wait(timeout=limit * PATIENCE)
        return time.monotonic() - begin


def lives(mark):
    """Processes that have this word in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in words and state != "Z":
            found.append(int(pid))
    return found


def until(limit, what, *args):
    end = time.monotonic() + limit * PATIENCE
    while time.monotonic() < end:
        if what(*args):
            return True
        time.sleep(0.05)
    return False


def equal(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


MARK = str(400000 + os.getpid())  # the seconds that this test's processes sleep
TREE = f"sleep {MARK} & setsid sleep {MARK} & (setsid sh -c 'sleep {MARK} & exit' &) ; sleep {MARK}"


def planted(head, ident=1):
    head.run(ident, TREE)
    assert until(10, lambda: len(lives(MARK)) == 4), lives(MARK)


def gone(limit=5):
    assert until(limit, lambda: not lives(MARK)), f"still there: {lives(MARK)}"


# ---- commands ----
def codes():
    head = Head()
    for ident, (line, want) in enumerate([("true", {"code": 0}), ("exit 75", {"code": 75}), ("kill -9 $$", {"signal": 9}), ("/not/there", {"code": 127})]):
        head.run(ident, line)
        end = head.get("exited", id=ident)
        equal({k: v for k, v in end.items() if k in ("code", "signal")}, want)
    head.put(type="quit")
    head.get("freed")
    head.ended()
    equal(head.p.returncode, 0)
    equal(head.kinds()[0], "host")
    equal(head.kinds()[-1], "freed")


def every_byte():
    head = Head()
    head.run(1, "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 1200); sys.stderr.buffer.write(b\"\\xff\\x00e\")'")
    head.get("exited", id=1)
    equal(head.output(1), bytes(range(256)) * 1200)
    equal(head.output(1, 2), b"\xff\x00e")
    head.put(type="quit")


def long_lines():
    head = Head()
    head.run(1, "python3 -c 'for i in range(20): print(chr(97 + i) * 65536)'")
    head.get("exited", id=1)
    equal(head.output(1), b"".join(bytes([97 + i]) * 65536 + b"\n" for i in range(20)))
    head.put(type="quit")


def environment():
    head = Head(environment={"CUDA_VISIBLE_DEVICES": "GPU-own", "NOTIFY_SOCKET": "/nowhere"})
    head.run(1, "echo $A-$CUDA_VISIBLE_DEVICES-$NOTIFY_SOCKET-$BERTD_NONCE", A="b c", CUDA_VISIBLE_DEVICES="GPU-other", NOTIFY_SOCKET="/x", BERTD_NONCE="y")
    head.get("exited", id=1)
    equal(head.output(1), b"b c-GPU-own--\n")
    equal(head.granted["gpus"], ["GPU-own"])
    head.put(type="quit")


def too_many():
    head = Head()
    for ident in range(70):
        head.run(ident, f"sleep {MARK}")
    for ident in range(64, 70):
        equal(head.get("exited", id=ident)["code"], 126)
    assert b"too many" in head.output(69, 2)
    head.put(type="quit")
    gone()


def ranks_alone():
    """A launcher that is not a rank does not get the signal, a shell's program does."""
    head = Head()
    head.run(1, f"trap 'echo launcher' TERM; OMPI_COMM_WORLD_RANK=3 sh -c 'trap : TERM; sleep {MARK}; echo shell ended'; echo $?")
    assert until(10, lives, MARK)
    head.put(type="signal", signal=15, to="ranks", caught=True)
    time.sleep(1)
    assert lives(MARK), "it has no handler"
    head.put(type="signal", signal=15, to="ranks")
    head.get("exited", id=1)
    equal(head.output(1), b"shell ended\n0\n")
    head.put(type="quit")


def stacks():
    head = Head()
    head.run(1, f"OMPI_COMM_WORLD_RANK=5 sleep {MARK} & OMPI_COMM_WORLD_RANK=6 sleep {MARK}")
    assert until(10, lambda: len(lives(MARK)) == 2)
    stopped = lives(MARK)[0]
    os.kill(stopped, signal.SIGSTOP)
    assert until(10, lambda: ") T " in open(f"/proc/{stopped}/stat").read())
    head.put(type="stacks")
    line = head.get("stacks", limit=40)
    assert "==== rank 5" in line["text"] and "==== rank 6" in line["text"], line["text"]
    equal((line["ranks"], line["stopped"]), (2, 1))
    head.put(type="quit")
    gone()


# ---- how it ends ----
def end_of_file():
    head = Head()
    planted(head)
    head.beats = False
    head.p.stdin.close()
    assert head.ended() < 5
    equal(head.p.returncode, 1)
    gone(1)


def silence():
    head = Head()
    planted(head)
    head.beats = False
    begin = time.monotonic()
    assert "silent" in head.get("ending", limit=TIMEOUT + 5)["reason"]
    assert TIMEOUT - 2 <= time.monotonic() - begin <= TIMEOUT + 3
    head.get("freed")
    head.ended()
    gone(1)


def beats_are_enough():
    head = Head()
    planted(head)
    time.sleep(TIMEOUT + 3)
    equal(len(lives(MARK)), 4)
    times = [x["at"] for x in head.lines if x["type"] == "beat"]
    assert len(times) >= 4 and max(b - a for a, b in zip(times, times[1:])) < 3 * PATIENCE, times
    head.put(type="quit")
    gone()


def stopped_for_a_while():
    """One that is stopped for longer than its limit ends as soon as it runs again: its head has given it up."""
    head = Head()
    planted(head)
    os.kill(head.leash(), signal.SIGSTOP)
    head.beats = False
    time.sleep(TIMEOUT + 2)
    os.kill(head.leash(), signal.SIGCONT)
    head.ended()
    gone(1)


def terminated():
    head = Head()
    planted(head)
    os.kill(head.leash(), signal.SIGTERM)
    assert "ended on" in head.get("ending")["reason"]
    head.get("freed")
    head.ended()
    equal(head.p.returncode, 0)
    gone(1)


def not_a_line():
    for data in (b"hello\n", b"{}\n", b"[1]\n", b"{" + b"x" * (2 << 20), b'{"type":"run","id":1}\n', b'{"type":"run","line":"true"}\n', b'{"type":"quit","type":"beat"}\n'):
        head = Head()
        planted(head)
        try:
            head.write(data)
        except OSError:
            pass
        head.ended()
        equal(head.p.returncode, 1)
        gone(1)


def unknown_types():
    head = Head()
    head.put(type="of tomorrow", with_="things")
    head.put(type="signal", signal=999, to="ranks")
    head.put(type="granted")
    head.run(1, "echo good")
    head.get("exited", id=1)
    head.put(type="quit")
    head.get("freed")


def killed():
    head = Head()
    head.run(1, f"exec sleep {MARK}")
    assert until(10, lives, MARK)
    os.kill(head.leash(), signal.SIGKILL)
    gone()


# ---- bounds ----
def resident(pid):
    return next(int(x.split()[1]) for x in open(f"/proc/{pid}/status") if x.startswith("VmRSS")) >> 10


def flood():
    """A head that does not read costs some megabytes, the program runs on, and what was lost is counted."""
    head = Head()
    head.reads.clear()
    head.run(1, "dd if=/dev/zero bs=65536 count=2000 status=none; echo written >&2")
    time.sleep(3)
    assert resident(head.leash()) < 64, resident(head.leash())
    head.reads.set()
    head.get("exited", id=1, limit=60)
    head.run(2, "echo after")
    head.get("exited", id=2)
    got = head.output(1, 1).count(b"\0")
    noted = sum(int(x.split()[1]) for i in (1, 2) for x in head.output(i, 2).decode().splitlines() if "were dropped" in x)
    assert noted > 0, "nothing was dropped?"
    assert 0 <= got + noted - (2000 << 16) <= 4096, (got, noted)
    head.put(type="quit")


def never_read():
    """A head that reads nothing for good and is silent, too: it ends all the same."""
    head = Head()
    planted(head)
    head.reads.clear()
    head.run(2, "yes")
    time.sleep(1)
    head.beats = False
    head.ended(TIMEOUT + 8)
    gone(1)


# ---- bertctl lease ----
def not_taken():
    head = Head(take=False)
    head.get("host")
    head.p.stdin.close()
    head.ended()
    equal((head.p.returncode, head.kinds()), (0, ["host"]))


def host_line():
    head = Head(take=False, extra=["--probe", "--inputs", "--network", "lo"])
    head.put(type="inputs", paths=["/etc/passwd", "/not/there"], hosts=["localhost", "-oProxyCommand=x"])
    host = head.get("host")
    head.ended()
    equal(host["version"], 2)
    equal(host["network"], {"interface": "lo", "address": "127.0.0.1"})
    equal([(x["path"], x["state"]) for x in host["inputs"]], [("/etc/passwd", "ok"), ("/not/there", "missing")])
    equal(host["resolves"]["localhost"], "127.0.0.1")
    assert "-oProxyCommand=x" not in host["resolves"] and abs(host["clock_usec"] / 1e6 - time.time()) < 60


def refused():
    """The reason and class of a host that lends nothing: argv has both after the command."""
    head = Head(take=False)
    head.get("host")
    line = head.get("refused")
    print(line["class"], line["reason"])
    head.ended()
    equal(head.p.returncode, 1)


# ---- of root's bertd under systemd; the command runs as a member of its group ----
def of_lease(name, ident):
    """The pid of that name whose job it is."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{pid}/comm").read().strip() == name and f"BERTD_JOB_ID={ident}".encode() in open(f"/proc/{pid}/environ", "rb").read().split(b"\0"):
                return int(pid)
        except OSError:
            pass
    raise AssertionError(f"no {name} of job {ident}")


def status(*words):
    return json.loads(subprocess.run([BERTCTL, "status", "--json", *words], stdout=subprocess.PIPE, check=True).stdout)


def job(ident):
    return status(str(ident))


def becomes(ident, state):
    assert until(20, lambda: job(ident)["state"] == state), job(ident)


def give_back(head):
    """Until its slots are free again."""
    head.put(type="quit")
    head.ended()
    becomes(head.granted["lease"], "done")


def root(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def lent():
    head = Head()
    ident = head.granted["lease"]
    planted(head)
    shown = job(ident)
    equal([shown[k] for k in ("kind", "name", "state", "lease_of", "lease_name")], ["lease", "leased to h1:42", "running", "h1:42", "bert"])
    for what in ("pause", "checkpoint"):
        out = subprocess.run([BERTCTL, what, str(ident)], stderr=subprocess.PIPE, text=True)
        assert out.returncode == 1 and "is a lease of h1:42" in out.stderr, out
    head.put(type="quit")
    head.get("freed")
    head.ended()
    gone(1)
    becomes(ident, "done")


def in_its_unit():
    head = Head()
    head.run(1, "id -un; ulimit -l; cut -d: -f3 /proc/self/cgroup | sort -u | grep bertd; touch /tmp/mine /dev/shm/mine")
    head.get("exited", id=1)
    user, locked, unit = head.output(1).decode().split()
    assert user != "root" and unit.endswith(f"-{head.granted['lease']}-1.service"), head.output(1)
    assert not os.path.exists("/tmp/mine") and not os.path.exists("/dev/shm/mine")
    print(locked)
    give_back(head)


def stopped_program(*names):
    head = Head()
    ident = head.granted["lease"]
    planted(head)
    for name in names:
        os.kill(of_lease(name, ident), signal.SIGSTOP)
    begin = time.monotonic()
    gone(TIMEOUT + 5)
    assert time.monotonic() - begin <= TIMEOUT + 5, time.monotonic() - begin
    becomes(ident, "failed")


def stopped_leash():
    stopped_program("bertd-leash")


def stopped_shim():
    stopped_program("bertd-shim")


def stopped_both():
    stopped_program("bertd-shim", "bertd-leash")


def killed_shim():
    head = Head()
    planted(head)
    os.kill(of_lease("bertd-shim", head.granted["lease"]), signal.SIGKILL)
    gone()
    becomes(head.granted["lease"], "failed")


def bertd_killed():
    head = Head()
    planted(head)
    root("systemctl", "kill", "-s", "KILL", "bertd")
    time.sleep(3)
    equal(len(lives(MARK)), 4)
    head.run(2, "echo still here")
    head.get("exited", id=2)
    becomes(head.granted["lease"], "running")
    give_back(head)
    gone(1)


def bertd_down():
    """What ends meanwhile does so by itself, and is closed when bertd is back."""
    head = Head()
    planted(head)
    root("systemctl", "stop", "bertd")
    head.beats = False
    try:
        gone(TIMEOUT + 5)
    finally:
        root("systemctl", "start", "bertd")
    becomes(head.granted["lease"], "failed")
    assert "silent" in job(head.granted["lease"])["reason"]


def cancelled_there():
    head = Head()
    planted(head)
    root(BERTCTL, "cancel", str(head.granted["lease"]))
    head.get("ending")
    head.get("freed")
    gone(1)
    becomes(head.granted["lease"], "cancelled")


def held():
    """Another head is told by whom, and gets it when it is free."""
    head = Head(extra=["--ranks", str(status()["daemon"]["slots"])])
    other = Head(take=False)
    other.get("host")
    other.put(type="take")
    line = other.get("refused")
    equal(line["class"], "busy")
    assert f"slots are busy: job {head.granted['lease']} of " in line["reason"] and "a lease of h1:42" in line["reason"], line
    give_back(head)
    give_back(Head())


def asked_to_move():
    head = Head()
    root(BERTCTL, "drain", "--move", "--reason", "new fan")
    try:
        line = head.get("drain")
        assert line["move"] and "new fan" in line["reason"], line
        other = Head(take=False)
        equal(other.get("host")["draining"], "new fan")
        other.put(type="take")
        equal(other.get("refused")["class"], "draining")
    finally:
        root(BERTCTL, "undrain")
    give_back(head)


try:
    globals()[sys.argv[1]]()
except AssertionError as problem:
    sys.exit(f"{sys.argv[1]}: {problem}")
