#!/usr/bin/env python3
"""Real Python trainers under bertd: an undisturbed run, and one that is killed, paused and hung; the same kills under torchrun and nohup.
Prints docs/python.md's tables. Called by scripts/check-python, with the Python of its environment.

    proof.py TEXT [--steps N] [--kills N] [--only NAME]
"""
import argparse
import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))
BERTD, BERTCTL = os.path.join(BUILD, "daemon/bertd"), os.path.join(BUILD, "ctl/bertctl")
EXAMPLES = os.path.join(ROOT, "examples/python")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
PROGRAMS = {
    "plain loop": ([sys.executable], "plain.py"),
    "Trainer": ([sys.executable], "hf_trainer.py"),
    "Lightning": ([sys.executable], "lightning_trainer.py"),
    "torchrun, 2 ranks": (TORCHRUN, "torchrun.py"),
}
LIMIT = 1800  # seconds for anything


class Host:
    """A bertd of its own."""

    def __init__(self, work):
        self.env = dict(os.environ, BERTD_STATE_DIR=work + "/state", BERTD_SOCKET=work + "/sock", OMP_NUM_THREADS="1",
                        PYTHONPATH=os.path.join(ROOT, "python"), PYTHONWARNINGS="ignore", TRANSFORMERS_VERBOSITY="error")
        self.log = open(work + "/bertd.log", "a")
        self.work = work
        self.daemon = None

    def start(self):
        self.daemon = subprocess.Popen([BERTD, "--launcher", "fork", "--slots", "8"], env=self.env, stdout=self.log, stderr=self.log)
        wait(lambda: self.ctl("list", check=False).returncode == 0, "bertd does not answer")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        self.start()

    def ctl(self, *words, check=True):
        return subprocess.run([BERTCTL, *words], env=self.env, check=check, capture_output=True, text=True)

    def job(self, number):
        job = json.loads(self.ctl("status", "--json", number).stdout)
        return dict(job, step=job.get("step") or 0)

    def submit(self, program, text, steps):
        launcher, script = PROGRAMS[program]
        return self.ctl("submit", "--retries", "50", "--hang-sec", "20", "--", *launcher, os.path.join(EXAMPLES, script), text, str(steps)).stdout.strip()


def wait(condition, problem, limit=LIMIT):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"proof.py: {problem}")
        time.sleep(0.05)


def processes():
    """pid -> (parent, command line)"""
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
    """The processes that train: those that run the script themselves, below `root`."""
    found = processes()
    return sorted(pid for pid in below(found, root) if any(w.endswith("/" + script) for w in found[pid][1]) and "torch.distributed.run" not in found[pid][1])


def shim_of(host, number):
    for pid, (_, words) in processes().items():
        if words[0].endswith("bertd-shim") and words[1:3] == ["--job", number] and f"{host.work}/sock" in " ".join(words):
            return pid
    return 0


def first_of(shim):
    return next((pid for pid, (parent, words) in processes().items() if parent == shim and "--keep" not in words), 0)


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


def last_checkpoint(host, number):
    rows = json.loads(host.ctl("checkpoints", "--json", number).stdout)
    return max((r for r in rows if r["state"] == "good"), key=lambda r: r["step"])["path"]


def run_quiet(host, program, text, steps):
    number = host.submit(program, text, steps)
    wait(lambda: host.job(number)["state"] in ("done", "failed", "cancelled"), f"{program} does not end")
    assert host.job(number)["state"] == "done", host.ctl("status", number).stdout
    return last_checkpoint(host, number)


def pause(host, number):
    host.ctl("pause", number, check=False)
    wait(lambda: host.job(number)["state"] in ("paused", "done"), "it does not pause")
    host.ctl("resume", number, check=False)


def run_paused(host, program, text, steps):
    number = host.submit(program, text, steps)
    wait(lambda: host.job(number)["step"] >= steps * 0.37, f"{program} does not step")
    pause(host, number)
    wait(lambda: host.job(number)["state"] == "done", f"{program} does not end")
    return last_checkpoint(host, number)


def strike(host, number, script, target):
    """Kills `target` of the job; returns whether there was one."""
    shim = shim_of(host, number)
    victim = {"rank": lambda: (ranks(shim, script) or [0])[-1], "launcher": lambda: first_of(shim), "shim": lambda: shim}
    if target == "bertd":
        host.kill()
        return True
    pid = victim[target]() if shim else 0
    if pid:
        os.kill(pid, signal.SIGKILL)
    return pid > 0


def run_disturbed(host, program, text, steps, kills, rng):
    script = PROGRAMS[program][1]
    number = host.submit(program, text, steps)
    moments = sorted(rng.sample(range(steps // 20, steps - steps // 10), kills + 3))
    faults = ["rank", "launcher", "shim", "bertd"]
    plan = [faults[i % 4] for i in range(kills)] + ["pause", "pause", "hang"]
    rng.shuffle(plan)
    times = {}
    for at, what in zip(moments, plan):
        wait(lambda: host.job(number)["step"] >= at or host.job(number)["state"] == "done", f"{program}: no step {at}")
        if host.job(number)["state"] == "done":
            break
        seen, begun = host.job(number)["step"], time.monotonic()
        if what == "pause":
            pause(host, number)
        elif what == "hang":
            found = ranks(shim_of(host, number), script)
            if found:
                os.kill(found[-1], signal.SIGSTOP)
        elif not strike(host, number, script, what):
            continue
        until = time.monotonic() + 0.5  # reports of steps before the fault may still come
        while time.monotonic() < until:
            seen = max(seen, host.job(number)["step"])
            time.sleep(0.05)
        wait(lambda: host.job(number)["step"] > seen or host.job(number)["state"] == "done", f"{program}: no new step after {what}")
        times.setdefault(what, []).append(time.monotonic() - begun)
    wait(lambda: host.job(number)["state"] in ("done", "failed"), f"{program} does not end")
    job = host.job(number)
    assert job["state"] == "done", host.ctl("status", number).stdout
    return last_checkpoint(host, number), job["lost_steps"], job["attempts"], times


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else float("nan")


def alone(command, work, script, steps, text):
    """The same program without bertd, started by `command`; a rank is killed, then the launcher. What becomes of it."""
    folder = tempfile.mkdtemp(dir=work)
    env = dict(os.environ, PYTHONPATH=f"{ROOT}/tests/python/alone:{ROOT}/python", OMP_NUM_THREADS="1")
    env.pop("BERTD_JOB_ID", None)
    out = open(folder + "/log", "w")
    run = subprocess.Popen([*command, os.path.join(EXAMPLES, script), text, str(steps)], cwd=folder, env=env, stdout=out, stderr=out)

    def step():
        try:
            return int(open(folder + "/steps").read() or 0)
        except (OSError, ValueError):
            return 0

    wait(lambda: step() >= steps // 3, f"{script} does not step")
    seen, begun = step(), time.monotonic()
    os.kill((ranks(run.pid, script) or [run.pid])[-1], signal.SIGKILL)
    wait(lambda: run.poll() is not None or (time.monotonic() - begun > 1 and step() > seen), f"{script}: neither goes on nor ends")
    after_rank = f"continues after {time.monotonic() - begun:.1f} s" if run.poll() is None else "ends"
    after_launcher = "ends"
    if run.poll() is None:
        run.kill()
        run.wait()
        time.sleep(3)
        for pid in [pid for pid, (_, words) in processes().items() if folder in (os.readlink(f"/proc/{pid}/cwd") if os.access(f"/proc/{pid}/cwd", os.R_OK) else "")]:
            after_launcher = "ends; a rank lives on"
            os.kill(pid, signal.SIGKILL)
    return after_rank, after_launcher


def overhead(work):
    """Seconds that one report() of a job takes, at 10 ms a step."""
    code = ("import time, bertd\nspent = 0\nfor step in range(1, 1001):\n    t = time.perf_counter()\n"
            "    while time.perf_counter() - t < 0.01:\n        pass\n    t = time.perf_counter()\n"
            "    bertd.report(step=step, steps=1000, loss=1.0, rate=100.0)\n    bertd.stopping()\n    spent += time.perf_counter() - t\nprint(spent / 1000)\n")
    host = Host(work)
    host.start()
    number = host.ctl("submit", "--", sys.executable, "-c", code).stdout.strip()
    host.ctl("wait", number)
    seconds = float(host.ctl("logs", number).stdout.split()[-1])
    host.daemon.terminate()
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only")
    args = parser.parse_args()
    rng = random.Random(1)
    work = tempfile.mkdtemp(prefix="bertd-python-")
    print("| program | weights after a clean stop and resume | after the faults | attempts | steps lost | rank killed | launcher | shim | bertd | pause | hang (limit 20 s) |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    held = True
    for program in PROGRAMS:
        if args.only and args.only not in program:
            continue
        folder = tempfile.mkdtemp(dir=work)
        host = Host(folder)
        host.start()
        quiet = run_quiet(host, program, args.text, args.steps)
        paused = difference(quiet, run_paused(host, program, args.text, args.steps))
        disturbed, lost, attempts, times = run_disturbed(host, program, args.text, args.steps, args.kills, rng)
        after = difference(quiet, disturbed)
        held &= after == "identical" or paused != "identical"
        cells = [f"{median(times.get(what, [])):.1f} s" for what in ("rank", "launcher", "shim", "bertd", "pause", "hang")]
        print(f"| {program} | {paused} | {after} | {attempts} | {lost} of {args.steps} | {' | '.join(cells)} |", flush=True)
        host.daemon.terminate()
        host.daemon.wait()
    print("\nTimes are from the fault to the first step beyond those seen before it (median).\n")
    print("The same programs without bertd, each beginning from its newest checkpoint when it is started (tests/python/alone):\n")
    print("| started by | a rank is killed | its launcher is killed |")
    print("|---|---|---|")
    for name, command, script in (("`torchrun --max-restarts 20`", [*TORCHRUN, "--max-restarts", "20"], "torchrun.py"),
                                  ("`nohup python … &`", ["nohup", sys.executable], "plain.py")):
        rank, launcher = alone(command, work, script, args.steps, args.text)
        print(f"| {name} | {rank} | {launcher} |", flush=True)
    spent = overhead(tempfile.mkdtemp(dir=work))
    print(f"\n`report()` and `stopping()` of a job take {spent * 1e6:.1f} µs at 10 ms a step: {spent / 0.01:.2%}.")
    shutil.rmtree(work, ignore_errors=True)
    return 0 if held and spent < 1e-5 else 1


sys.exit(main())
