"""Several whole hosts (tests/hosts/cluster) as Python sees them: their processes, their faults, a job over them."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIR = pathlib.Path(os.environ.get("BERTD_HOSTS_DIR", "/var/tmp/bertd-hosts"))
GROUP = f"/{DIR.name}-h"  # of a host's control group
CLUSTER = str(ROOT / "tests/hosts/cluster")
ALICE = 1500
ENDED = ("done", "failed", "cancelled", "paused")
TICKS = os.sysconf("SC_CLK_TCK")
OPEN_MPI_5 = {"mpirun": "prterun", "orted": "prted"}
LIMIT = 300  # seconds for any wait that names no other


class Failed(Exception):
    pass


def note(text):
    print(f"# {time.strftime('%T')} {text}", file=sys.stderr, flush=True)


def wait(condition, problem, limit=LIMIT, pause=0.1):
    """What the condition gives once it is true."""
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{problem} within {limit} s")
        time.sleep(pause)


def cluster(*words, check=True, **options):
    return subprocess.run([CLUSTER, *map(str, words)], check=check, text=True, **options)


def said(done):
    """The first lines of what a command complained of: Open MPI's explanations come after the cause."""
    return " | ".join((done.stderr or done.stdout or "").strip().splitlines()[:6])[:800]


class Process:
    """One of a host's, as this machine numbers it: a number that comes again is another process."""

    def __init__(self, pid):
        folder = f"/proc/{pid}"
        stat = open(folder + "/stat").read()
        fields = stat.rsplit(")", 1)[1].split()
        self.pid, self.name, self.state, self.parent = pid, stat.split("(", 1)[1].rsplit(")", 1)[0], fields[0], int(fields[1])
        self.ticks = int(fields[19])
        self.uid = os.stat(folder).st_uid
        self.group = next((line.rstrip("\n").split(":", 2)[2] for line in open(folder + "/cgroup") if GROUP in line), "")
        self.host = self.group.split(GROUP, 1)[1].split("/", 1)[0] if self.group else ""
        self.words = open(folder + "/cmdline", "rb").read().decode(errors="replace").split("\0")[:-1]

    def key(self):
        return self.pid, self.ticks

    def started(self):
        """Seconds of wall time."""
        return time.time() - float(open("/proc/uptime").read().split()[0]) + self.ticks / TICKS

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def __str__(self):
        return f"h{self.host} {self.pid} {' '.join(self.words)[:90] or self.name}"


def processes(uid=None):
    """Of every host."""
    for folder in os.listdir("/proc"):
        if folder.isdigit():
            try:
                process = Process(int(folder))
            except (OSError, IndexError):
                continue
            if process.host and process.state not in "ZX" and (uid is None or process.uid == uid):
                yield process


def find(host, name):
    """The processes of that host and name, oldest first; a name is cut at 15 bytes by the kernel. Open MPI 5 has other names."""
    names = {name[:15], OPEN_MPI_5.get(name)}
    return sorted((p for p in processes() if p.host == str(host) and p.name in names), key=lambda p: p.ticks)


class Bed:
    def __init__(self, hosts):
        self.count = hosts

    def __enter__(self):
        cluster("down")
        cluster("up", self.count)
        for host in range(1, self.count + 1):
            wait(lambda: self.run(host, "bertctl", "list", check=False).returncode == 0, f"h{host}: bertd does not answer", 60)
        return self

    def __exit__(self, *_):
        if not os.environ.get("KEEP"):
            cluster("down")

    def run(self, host, *words, check=True, **options):
        options = {"capture_output": True, "timeout": LIMIT} | options
        done = cluster("run", host, *words, check=False, **options)
        if check and done.returncode:
            raise Failed(f"h{host}: {' '.join(map(str, words))[:200]}: exit {done.returncode}: {said(done)}")
        return done

    def alice(self, host, line, check=True, user="alice"):
        done = cluster("as", user, host, line, check=False, capture_output=True, timeout=LIMIT)
        if check and done.returncode:
            raise Failed(f"h{host}: {line[:200]}: exit {done.returncode}: {said(done)}")
        return done

    def file(self, host, path):
        """Where a file of a host's disk lies here; its /run and /tmp are not on it."""
        return DIR / f"h{host}/root" / path.lstrip("/")

    def write(self, host, path, text):
        file = self.file(host, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for made in (file, file.parent):
            if "home/alice/" in str(made):
                os.chown(made, ALICE, ALICE)

    def cut(self, host): cluster("cut", host)
    def join(self, host): cluster("join", host)
    def crash(self, host): cluster("crash", host)
    def boot(self, host): cluster("boot", host)
    def reboot(self, host): cluster("reboot", host)
    def key(self, host): cluster("key", host)

    def submit(self, host, spec, *options):
        """The spec in a file of alice's, submitted by her; the job."""
        self.write(host, "/home/alice/job.yaml", spec)
        return Job(self, host, self.alice(host, f"bertctl submit {' '.join(options)} job.yaml").stdout.strip())

    def gang(self):
        """What runs for alice on any host, but for logins and her own manager."""
        return [p for p in processes(ALICE) if "/user.slice/" not in p.group and p.name not in ("sshd", "systemd", "(sd-pam)")]


class Job:
    def __init__(self, bed, host, number):
        self.bed, self.host, self.number = bed, host, number

    def fields(self):
        done = self.bed.run(self.host, "bertctl", "status", "--json", self.number, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {}

    def events(self):
        return json.loads(self.bed.run(self.host, "bertctl", "events", "--json", self.number).stdout)

    def state(self):
        return self.fields().get("state")

    def step(self):
        return self.fields().get("step") or 0

    def trains(self, beyond=0, limit=LIMIT):
        """Waits until it has made so many steps."""
        def condition():
            fields = self.fields()
            if fields.get("state") in ENDED:
                raise Failed(f"job {self.number} is {fields['state']}: {fields.get('reason')}")
            return fields.get("state") == "running" and (fields.get("step") or 0) > beyond
        return wait(condition, f"job {self.number} has not gone beyond step {beyond}", limit)

    def finish(self, limit=LIMIT):
        """Waits for its end, which must be a good one; its fields."""
        wait(lambda: self.state() in ENDED, f"job {self.number} has not ended", limit, 0.5)
        fields = self.fields()
        if fields["state"] != "done":
            raise Failed(f"job {self.number} is {fields['state']}: {fields.get('reason')}\n{self.story()}")
        return fields

    def story(self):
        said = [self.bed.run(self.host, "bertctl", *words, self.number, check=False).stdout
                for words in (["status"], ["events"], ["logs", "-n", "25"])]
        return "\n".join(said)

    def checkpoint(self):
        rows = json.loads(self.bed.run(self.host, "bertctl", "checkpoints", "--json", self.number).stdout)
        return max((r for r in rows if r["state"] == "good"), key=lambda r: r["step"])["path"]

    def cancel(self):
        self.bed.run(self.host, "bertctl", "cancel", "--now", self.number, check=False)
