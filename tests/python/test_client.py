"""python/bertd.py with plain python3 (TAP): nothing outside bertd, no exception, no wait on a full socket, few calls a step,
syntax of Python 3.8, and a text for every public name."""
import ast
import atexit
import contextlib
import importlib.util
import inspect
import io
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(os.environ["SOURCE_DIR"])
SOURCES = sorted((ROOT / "python").glob("*.py"))
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "LOCAL_RANK")
points = failed = 0
clients = []


def ok(what, good, why=""):
    global points, failed
    points += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {points} - {what}" + (f"\n# {why}" if not good and why != "" else ""))


def same(what, got, expected):
    ok(what, got == expected, f"got {got!r}, expected {expected!r}")


def client(**environment):
    """A new copy of the module, in an environment with these BERTD_ variables and no others."""
    for name in list(os.environ):
        if name.startswith("BERTD_") or name in RANKS + ("NOTIFY_SOCKET",):
            del os.environ[name]
    os.environ.update(environment)
    spec = importlib.util.spec_from_file_location("bertd", ROOT / "python/bertd.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clients.append(module)
    return module


class Notify:
    """A job's NOTIFY_SOCKET."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = self.folder.name + "/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def job(self, **more):
        return client(BERTD_JOB_ID="1", NOTIFY_SOCKET=self.path, **more)

    def read(self):
        """What has come, as lists of lines."""
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(65536).decode(errors="surrogateescape").split("\n"))
        return messages


def lines(messages):
    return [line for message in messages for line in message]


# What people read and run.
for source in SOURCES:
    tree = ast.parse(source.read_text(), feature_version=(3, 8))
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
    undocumented = [n.name for n in public if not ast.get_docstring(n)]
    same(f"{source.name} has a text for every public name, and Python 3.8's syntax", undocumented, [])
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    arguments = lambda f: [a for a in f.args.args + f.args.kwonlyargs if a.arg not in ("self", "cls")]
    untyped = [f.name for f in functions if f.returns is None or any(a.annotation is None for a in arguments(f))]
    same(f"{source.name} has types throughout", untyped, [])
ok("bertd.py has fewer than 250 lines", len((ROOT / "python/bertd.py").read_text().splitlines()) < 250)
imports = {a.name for n in ast.walk(ast.parse((ROOT / "python/bertd.py").read_text())) if isinstance(n, ast.Import) for a in n.names}
ok("and needs the standard library alone", imports <= getattr(sys, "stdlib_module_names", imports), imports)
for example in (ROOT / "examples/python").glob("*.py"):
    ok(f"{example.name} has fewer than 80 lines", len(example.read_text().splitlines()) < 80)

# Outside bertd.
bertd = client()
before = signal.getsignal(signal.SIGUSR1)
bertd.report(step=1, steps=2, loss=0.5)
bertd.saved("/nowhere", 1)
same("outside bertd nothing is asked", (bertd.resume(), bertd.run_dir("out"), bertd.stopping(), bertd.checkpoint_requested()), (None, "out", False, False))
same("finish_stop returns", bertd.finish_stop(), None)
same("and no signal is taken over", signal.getsignal(signal.SIGUSR1), before)
same("names", sorted(bertd.__all__), ["checkpoint_requested", "finish_stop", "report", "resume", "run_dir", "saved", "stopping"])

# In a job.
notify = Notify()
bertd = notify.job(BERTD_RESUME="/run/checkpoint-7", BERTD_RUN_DIR="/run")
same("where to begin, and where to write", (bertd.resume(), bertd.run_dir("out")), ("/run/checkpoint-7", "/run"))
bertd.report(step=1, steps=9, loss=0.123456789, rate=7, status="two\nlines")
same("a report", notify.read(), [["READY=1"], ["X_BERTD_STEP=1", "X_BERTD_STEPS=9", "X_BERTD_LOSS=0.123456789", "X_BERTD_RATE=7", "STATUS=two lines"]])
bertd._link.due = 0
bertd.report(busy="evaluation", status="")
same("work between two steps is a sign of life", lines(notify.read()), ["STATUS=", "X_BERTD_BUSY=evaluation", "WATCHDOG=1"])
bertd.saved("x/../checkpoint", 5)
same("a checkpoint, by its absolute path", notify.read(), [["X_BERTD_CHECKPOINT_STEP=5", "X_BERTD_CHECKPOINT=" + os.path.abspath("checkpoint")]])
bertd.report(step=2)
bertd.report(step=3)
bertd.saved(b"/c", 3)
same("the newest step comes before its checkpoint", lines(notify.read()), ["X_BERTD_STEP=3", "X_BERTD_CHECKPOINT_STEP=3", "X_BERTD_CHECKPOINT=/c"])
same("without a checkpoint to begin from", notify.job(BERTD_RESUME="").resume(), None)

# A rank on another host of the job, where bertd has no socket: it begins where rank 0 does, and ends as it does.
before = signal.getsignal(signal.SIGUSR1)
bertd = client(BERTD_JOB_ID="1", BERTD_RESUME="/run/checkpoint-7", BERTD_RUN_DIR="/run", RANK="1")
same("on another host, too", (bertd.resume(), bertd.run_dir("out")), ("/run/checkpoint-7", "/run"))
bertd.report(step=1)
bertd.saved("/c", 1)
same("where there is no socket", (bertd.stopping(), bertd._link.pending, signal.getsignal(signal.SIGUSR1)), (False, [], before))
try:
    bertd.finish_stop()
    same("finish_stop ends the program there", None, 75)
except SystemExit as end:
    same("finish_stop ends the program there", end.code, 75)

# Nothing that a program may pass is worth its run.
class Bad:
    def __float__(self):
        raise RuntimeError("a tensor of two elements")

    __int__ = __str__ = __fspath__ = __float__


bertd = notify.job()
said = io.StringIO()
with contextlib.redirect_stderr(said):
    for value in (Bad(), "x", float("nan"), float("inf"), 10**5000, object(), [], b"\xff"):
        bertd.report(step=value, steps=value, loss=value, rate=value, status=value)
        bertd.saved(value, value)
    bertd.saved("/a\nb", 1)
    bertd.saved("/" + "a" * 5000, 1)
    for step in (0, -1, 1e400, None):
        bertd.saved("/good", step)
same("what cannot be a checkpoint is not sent", [line for line in lines(notify.read()) if "CHECKPOINT" in line], [])
ok("but reported on stderr", said.getvalue().count("not recorded") >= 5, said.getvalue())
stderr, sys.stderr = sys.stderr, io.StringIO()
sys.stderr.close()
bertd.saved("/a\nb", 1)
sys.stderr = stderr
ok("also where that is closed", True)
bertd = client(BERTD_JOB_ID="1", NOTIFY_SOCKET="/nowhere/notify")
bertd.report(step=1)
bertd.saved("/x", 1)
ok("a socket that is missing is no error", not bertd.stopping())

# A full socket: nothing waits, the newest are kept, and they come when there is room.
notify = Notify()
bertd = notify.job()
bertd._INTERVAL_SEC = 0
sent, sleeps = [0], []
real = bertd._send
bertd._send = lambda message: sent.__setitem__(0, sent[0] + 1) or real(message)
bertd.time.sleep, slept = sleeps.append, bertd.time.sleep
for step in range(1, 2001):
    bertd.report(step=step)
    bertd.saved(f"/c{step}", step)
same("a full socket is not waited for", sleeps, [])
ok("what waits for room is bounded", len(bertd._link.pending) <= 64, len(bertd._link.pending))
ok("and few sends are tried a step", sent[0] <= 2000 * 4, sent[0])
notify.read()
came = []
for _ in range(70):
    bertd.report(step=2001)
    came += lines(notify.read())
ok("the newest come when there is room", "X_BERTD_CHECKPOINT=/c2000" in came and "X_BERTD_STEP=2001" in came, came[-5:])
bertd.time.sleep = slept

# The cost of a step: no datagram, no conversion, no look at the system but at the clock.
notify = Notify()
bertd = notify.job()
bertd.report(step=0)
calls = []


class Loss:
    def __float__(self):
        calls.append("float")
        return 1.0


sys.setprofile(lambda frame, event, what: calls.append(what.__name__) if event == "c_call" else None)
for step in range(1, 101):
    bertd.report(step=step, loss=Loss())
sys.setprofile(None)
system = [c for c in calls if c in ("sendto", "float", "getpid", "open", "stat")]
ok("of 100 steps in a moment few are sent", len(system) <= 20, system)
ok("and a step calls little", len(calls) <= 100 * 12, len(calls) / 100)
bertd.time.monotonic, clock = (lambda: 1e9), bertd.time.monotonic
bertd.report(step=101)
bertd.time.monotonic = clock
ok("later the newest is", "X_BERTD_STEP=101" in lines(notify.read()))

# A loss on a GPU, which is behind: what would wait for it is counted.
waits, gpu_done = [], False


class Event:
    recorded = None

    def record(self, stream):
        self.recorded = stream

    def query(self):
        if self.recorded == "failed":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return gpu_done and self.recorded == "stream of cuda:1"


class OnGpu:
    def __init__(self, number, kind="cuda"):
        self.number, self.device = number, type("device", (), {"type": kind, "__str__": lambda _: kind + ":1"})()

    def to(self, device, non_blocking):
        return waits.append("to") if device != "cpu" or not non_blocking else self.number

    def __float__(self):
        waits.append("float")
        return float(self.number)

    detach = lambda self: self
    reshape = lambda self, shape: self if shape == () else waits.append(shape)
    __int__ = __str__ = __float__


def job_with_gpu(stream="stream of "):
    link = Notify()
    cuda = type("cuda", (), {"Event": Event, "current_stream": staticmethod(lambda device: stream if stream == "failed" else f"{stream}{device}")})
    sys.modules["torch"] = type("torch", (), {"cuda": cuda})
    module = link.job()
    module._INTERVAL_SEC = 0
    return link, module


notify, bertd = job_with_gpu()
for step in (1, 2, 3):
    bertd.report(step=step, loss=OnGpu(step / 2))
same("a number on a GPU that is behind is not sent", [line for line in lines(notify.read()) if "LOSS" in line], [])
gpu_done = True
bertd.report(step=4)
same("but once it is there, while later ones wait for the next report", lines(notify.read()), ["X_BERTD_STEP=4", "X_BERTD_LOSS=0.5"])
bertd.report(loss=OnGpu(2.5), rate=OnGpu(7), step=OnGpu(5), status="s")
same("any number may be on a GPU", sorted(lines(notify.read())), ["STATUS=s", "X_BERTD_LOSS=2.5", "X_BERTD_RATE=7", "X_BERTD_STEP=5"])
gpu_done = False
bertd.report(loss=OnGpu(3.5))
bertd.time.sleep, slept = lambda _: globals().update(gpu_done=True), bertd.time.sleep
bertd._at_exit()
bertd.time.sleep = slept
same("the last one is sent as the program ends", lines(notify.read()), ["X_BERTD_LOSS=3.5"])
bertd.report(step=6, loss=OnGpu(1, kind="unknown"))
same("one on an unknown device is not", lines(notify.read()), ["X_BERTD_STEP=6"])
notify, bertd = job_with_gpu(stream="failed")
bertd.report(step=1, loss=OnGpu(1))
bertd.report(step=2, loss=OnGpu(2))
same("a GPU that failed is no exception", [line for line in lines(notify.read()) if "STEP" in line], ["X_BERTD_STEP=1", "X_BERTD_STEP=2"])
same("nothing has waited for the GPU", waits, [])
with_gradient = OnGpu(1, kind="cpu")
with_gradient.detach = lambda: 1.5
bertd._INTERVAL_SEC = 0
bertd.report(step=3, loss=with_gradient)
same("a tensor with a gradient is read without it", (lines(notify.read()), waits), (["X_BERTD_STEP=3", "X_BERTD_LOSS=1.5"], []))
del sys.modules["torch"]

# Signals.
notify = Notify()
bertd = notify.job()
thread = threading.Thread(target=bertd.stopping)
thread.start()
thread.join()
same("a thread declares nothing", notify.read(), [])
ok("nothing is requested yet", not bertd.stopping() and not bertd.checkpoint_requested())
ok("the first call declares the signals", [f"MAINPID={os.getpid()}", "X_BERTD_SIGNALS=stop:USR1,checkpoint:USR2"] in notify.read())
os.kill(os.getpid(), signal.SIGUSR2)
same("a checkpoint is requested once", (bertd.checkpoint_requested(), bertd.checkpoint_requested(), bertd.stopping()), (True, False, False))
os.kill(os.getpid(), signal.SIGUSR1)
same("a stop stays requested", (bertd.stopping(), bertd.stopping()), (True, True))
try:
    bertd.finish_stop()
    same("finish_stop ends the program", "returned", "exit")
except SystemExit as end:
    same("finish_stop ends the program", end.code, 75)

# Ranks, forks, stacks, the end.
notify = Notify()
bertd = notify.job(RANK="3", BERTD_STACKS=notify.folder.name)
bertd.report(step=1)
bertd.saved("/c", 1)
bertd.stopping()
same("another rank offers its stacks alone", notify.read(), [["X_BERTD_RANK=3", "X_BERTD_STACKS=QUIT"]])
os.kill(os.getpid(), signal.SIGQUIT)
stacks = pathlib.Path(notify.folder.name, f"python-{os.getpid()}.txt").read_text()
ok("and writes them when asked", "test_client.py" in stacks, stacks)
notify = Notify()
notify.job(LOCAL_RANK="1").report(step=1)
same("a rank that Lightning started, which has a local rank alone", notify.read(), [])
notify.job(RANK="0", LOCAL_RANK="1").report(step=1)
same("the rank in all hosts counts before", lines(notify.read()), ["READY=1", "X_BERTD_STEP=1"])
code = "import os, bertd; bertd.report(step=1); bertd.report(step=2); pid = os.fork()\nif pid == 0: bertd.report(step=3)\nelse: os.waitpid(pid, 0)"
environment = {**os.environ, "BERTD_JOB_ID": "1", "NOTIFY_SOCKET": notify.path, "PYTHONPATH": str(ROOT / "python"), "RANK": "0"}
same("a program ends well", subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode, 0)
steps = [line for line in lines(notify.read()) if line.startswith("X_BERTD_STEP=")]
same("its last step is sent as it ends, a fork's own before", steps, ["X_BERTD_STEP=1", "X_BERTD_STEP=3", "X_BERTD_STEP=2"])

for module in clients:
    atexit.unregister(module._at_exit)
print(f"1..{points}")
sys.exit(failed > 0)
