"""A bertd of its own for proof.py, the processes of its jobs, and the weights that they save."""
import glob
import json
import os
import signal
import struct
import subprocess
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, ROOT + "/tests")
import bus  # noqa: E402

BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))
BERTD, BERTCTL = os.path.join(BUILD, "daemon/bertd"), os.path.join(BUILD, "ctl/bertctl")
LIMIT = 1800  # seconds for anything
ENDED = ("done", "failed", "cancelled")
HANG_SEC = 40  # beyond what the end of a launcher takes on a machine with much other work


def environment(*path):
    """For a program, with these folders for its imports. One thread: the sums of several depend on their number."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("BERTD_")}
    return dict(env, PYTHONPATH=":".join(path), OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore", TRANSFORMERS_VERBOSITY="error")


class Host:
    def __init__(self, work):
        self.env = dict(environment(ROOT + "/python"), BERTD_STATE_DIR=work + "/state", BERTD_SOCKET=work + "/sock")
        self.work, self.jobs, self.client = work, [], None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in self.jobs:
            self.ctl("cancel", number, check=False)
        self.daemon.terminate()
        self.daemon.wait()

    def start(self):
        with open(self.work + "/bertd.log", "a") as log:
            self.daemon = subprocess.Popen([BERTD, "--launcher", "fork", "--slots", "8"], env=self.env, stdout=log, stderr=log)
        wait(lambda: self.ctl("list", check=False).returncode == 0, "bertd does not answer")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        self.client = None
        self.start()

    def ctl(self, *words, check=True):
        return subprocess.run([BERTCTL, *words], env=self.env, check=check, capture_output=True, text=True)

    def job(self, number):
        """Over one connection: a bertctl for each look would take the time of the programs that are looked at."""
        if not self.client:
            self.client = bus.Client(self.work + "/sock", LIMIT)
        try:
            _, body = self.client.call("GetJob", struct.pack("<Q", int(number)), "t")
        except OSError:
            self.client = None
            raise
        return dict(state=member(body, "state"), step=member(body, "step") or 0, attempts=member(body, "attempts"))

    def submit(self, *command):
        self.jobs.append(self.ctl("submit", "--retries", "50", "--hang-sec", str(HANG_SEC), "--", *command).stdout.strip())
        return self.jobs[-1]

    def finish(self, number):
        """Waits for the job's end; its state and the path of its last checkpoint."""
        wait(lambda: self.job(number)["state"] in ENDED, f"job {number} does not end")
        job = json.loads(self.ctl("status", "--json", number).stdout)
        if job["state"] != "done":
            raise SystemExit(self.ctl("status", number).stdout + self.ctl("logs", number, check=False).stdout[-3000:])
        rows = json.loads(self.ctl("checkpoints", "--json", number).stdout)
        return job, max((r for r in rows if r["state"] == "good"), key=lambda r: r["step"])["path"]


def member(body, key):
    """Of an a{sv}: a string or a number."""
    at = body.find(bus.string(key))
    if at < 0:
        return None
    at += len(bus.string(key))
    kind, at = chr(body[at + 1]), at + 3
    if kind == "s":
        at += -at % 4
        return body[at + 4:at + 4 + struct.unpack_from("<I", body, at)[0]].decode()
    size = {"t": 8, "x": 8, "u": 4, "i": 4}[kind]
    return int.from_bytes(body[at + -at % size:at + -at % size + size], "little")


def wait(condition, problem, limit=LIMIT):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"proof.py: {problem}")
        time.sleep(0.1)


def processes():
    """pid -> (parent, words of the command)"""
    found = {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            stat = open(folder + "/stat").read()
            words = open(folder + "/cmdline", "rb").read().decode(errors="replace").split("\0")
        except OSError:
            continue
        found[int(os.path.basename(folder))] = (int(stat.rsplit(")", 1)[1].split()[1]), words)
    return found


def below(found, root):
    tree = {root}
    while True:
        more = {pid for pid, (parent, _) in found.items() if parent in tree} - tree
        if not more:
            return tree - {root}
        tree |= more


def ranks(root, script):
    """The processes that train: `root` or those below it that run the script themselves."""
    found = processes()
    return sorted(pid for pid in below(found, root) | {root} if pid in found and
                  any(w.endswith("/" + script) for w in found[pid][1]) and "torch.distributed.run" not in found[pid][1])


def shim_of(host, number):
    for pid, (_, words) in processes().items():
        if words[0].endswith("bertd-shim") and words[1:3] == ["--job", number] and f"{host.work}/sock" in " ".join(words):
            return pid
    return None


def launcher_of(shim):
    return next((pid for pid, (parent, words) in processes().items() if parent == shim and "--keep" not in words), None)


def kill_those_in(folder):
    """Kills what has this working directory; how many there were."""
    count = 0
    for pid in processes():
        try:
            if os.readlink(f"/proc/{pid}/cwd") == folder:
                os.kill(pid, signal.SIGKILL)
                count += 1
        except OSError:
            continue
    return count


def weights(path):
    """name -> tensor of whatever the programs save."""
    import torch

    if os.path.isdir(path):
        from safetensors.torch import load_file

        return load_file(os.path.join(path, "model.safetensors"))
    saved = torch.load(path, weights_only=False, map_location="cpu")
    return saved["model"] if "model" in saved else saved["state_dict"]


def difference(a, b):
    import torch

    x, y = weights(a), weights(b)
    if x.keys() != y.keys():
        return "other tensors"
    worst = max(float((x[k].double() - y[k].double()).abs().max()) for k in x)
    return "identical" if all(torch.equal(x[k], y[k]) for k in x) else f"{worst:.1e}"


def note(text):
    print(f"proof.py: {time.strftime('%T')} {text}", file=sys.stderr, flush=True)
