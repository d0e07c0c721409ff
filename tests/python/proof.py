#!/usr/bin/env python3
"""Real Python trainers: under bertd, undisturbed and under faults (faults); the same faults without bertd (alone); the cost of reporting
(overhead). Prints a section of docs/python.md. Called by scripts/check-python, with the Python of its environment.

    proof.py PART TEXT [--steps N] [--kills N] [--at-a-time N] [--only NAME]

--at-a-time: how many runs go at once (1). NAME: a part of a program's name.
"""
import argparse
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from host import ENDED, HANG_SEC, LIMIT, ROOT, Host, difference, environment, kill_those_in, launcher_of, note, ranks, shim_of, wait

ALONE = ROOT + "/tests/python/alone"
sys.path.insert(0, ALONE)
import bertd as alone  # noqa: E402

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
PROGRAMS = {
    "plain loop": ([sys.executable], "plain.py"),
    "Trainer": ([sys.executable], "hf_trainer.py"),
    "Lightning": ([sys.executable], "lightning_trainer.py"),
    "torchrun, 2 ranks": (TORCHRUN, "torchrun.py"),
}
KILLED = ("rank", "launcher", "shim", "bertd")
FAULTS = (*KILLED, "pause", "hang")
PATIENCE_SEC = 120  # without bertd: a program that makes no step for so long is started again by hand
OVERHEAD_RUNS, STEP_SEC, BOUND, CALM = 5, 0.01, 0.001, 0.1


def plan(seed, steps, kills):
    """[(step, fault)]: the kills in turn, two pauses and a hang, at random moments."""
    rng = random.Random(seed)
    faults = [KILLED[i % len(KILLED)] for i in range(kills)] + ["pause", "pause", "hang"]
    rng.shuffle(faults)
    return list(zip(sorted(rng.sample(range(steps // 20, steps - steps // 10), len(faults))), faults))


def program_of(name, text, steps):
    launcher, script = PROGRAMS[name]
    return [*launcher, os.path.join(ROOT, "examples/python", script), text, str(steps)]


class Timed:
    """Seconds since it was made."""

    def __init__(self):
        self.begun = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.begun


def pause(host, number):
    host.ctl("pause", number)
    wait(lambda: host.job(number)["state"] == "paused", f"job {number} does not pause")
    host.ctl("resume", number)


def victim_of(shim, script, fault):
    """A process; None: it is not there now."""
    if not shim or fault == "shim":
        return shim
    return launcher_of(shim) if fault == "launcher" else max(ranks(shim, script), default=None)


def hit(find, number):
    """Sends a signal to the process that it finds, as soon as there is one: 0 as a process would be this program's whole group."""

    def sent():
        try:
            return (victim := find()) and os.kill(victim, number) is None
        except ProcessLookupError:
            return False  # it was ending

    wait(sent, "no process to strike")


def strike(host, number, script, fault):
    if fault == "bertd":
        return host.kill()
    if fault == "pause":
        return pause(host, number)
    hit(lambda: victim_of(shim_of(host, number), script, fault), signal.SIGSTOP if fault == "hang" else signal.SIGKILL)


def run_quiet(work, command):
    """(seconds, checkpoint)"""
    with Host(work) as host:
        spent = Timed()
        path = host.finish(host.submit(*command))[1]
        return spent(), path


def run_paused(work, command, steps):
    with Host(work) as host:
        number = host.submit(*command)
        wait(lambda: host.job(number)["step"] >= steps * 0.37, f"job {number} does not step")
        pause(host, number)
        return host.finish(number)[1]


def runs_beyond(job, step):
    return job["state"] == "running" and job["step"] >= step


def last_step(host, number, before):
    """Of the attempt of `before`, once the next one has started: ranks without a launcher train on until they are found."""
    spent = Timed()
    while (job := host.job(number))["attempts"] == before["attempts"]:
        if job["state"] in ENDED or spent() > LIMIT:
            raise SystemExit(f"proof.py: job {number}: {job['state']}, and no new attempt after a fault; give it more --steps")
        before = job
        time.sleep(0.1)
    return before["step"]


def run_disturbed(work, command, script, faults):
    """(seconds, job, checkpoint, fault -> seconds from each to the first step beyond those seen before it)"""
    times = {fault: [] for fault in FAULTS}
    with Host(work) as host:
        whole, number = Timed(), host.submit(*command)
        for at, fault in faults:
            wait(lambda: runs_beyond(host.job(number), at), f"job {number}: no step {at}")
            job, spent = host.job(number), Timed()
            strike(host, number, script, fault)
            seen = job["step"] if fault == "bertd" else last_step(host, number, job)
            wait(lambda: host.job(number)["step"] > seen, f"job {number}: no new step after {fault}")
            times[fault].append(spent())
            note(f"{script}: {fault} after step {seen}: {times[fault][-1]:.1f} s")
        job, path = host.finish(number)
        return whole(), job, path, times


class Alone:
    """A program without bertd, and the person who looks after it."""

    def __init__(self, work, command):
        self.folder, self.command = os.path.realpath(tempfile.mkdtemp(dir=work)), command
        self.by_hand = self.leftovers = self.damaged = 0
        self.start()

    def start(self):
        with open(self.folder + "/log", "a") as log:
            self.run = subprocess.Popen(self.command, cwd=self.folder, env=environment(ALONE, ROOT + "/python"), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                        start_new_session=True)  # the scheduler gives each session its share, as it does a job's

    def lines(self):
        """(step, whether an attempt began from it), oldest first"""
        try:
            words = [line.split() for line in open(self.folder + "/steps").read().split("\n")[:-1]]
        except OSError:
            return []
        return [(int(line[-1]), len(line) > 1) for line in words]

    def step(self):
        return max((step for step, _ in self.lines()), default=0)

    def begins(self):
        return sum(begin for _, begin in self.lines())

    def lost(self):
        steps = [step for step, _ in self.lines()]
        return sum(max(0, before - after) for before, after in zip(steps, steps[1:]))

    def ended(self):
        return self.run.poll() is not None

    def is_complete(self):
        """Lightning ends with 0 after SIGTERM, too."""
        return self.run.poll() == 0 and self.step() >= int(self.command[-1])

    def restart(self):
        self.run.kill()
        self.run.wait()
        self.leftovers += kill_those_in(self.folder) > 0
        self.by_hand += 1
        self.start()

    def advanced(self, begins):
        """Whether an attempt after the first `begins` made a step that none before it had made."""
        lines = self.lines()
        newest = max((i for i, (_, begin) in enumerate(lines) if begin), default=0)
        seen = max((step for step, _ in lines[:newest]), default=0)
        return self.begins() > begins and any(step > seen for step, _ in lines[newest:])

    def continues(self, begins, limit):
        """Waits until it has advanced; False: it ended, or did not in time."""
        spent = Timed()
        while spent() < limit:
            if self.advanced(begins) or self.ended():
                break
            time.sleep(0.1)
        return self.advanced(begins) or self.is_complete()

    def tend(self, begins):
        """Whether it continued by itself; if not, it is started until it does."""
        if self.continues(begins, PATIENCE_SEC):
            return True
        begins = self.begins()
        self.restart()
        while not self.continues(begins, 10 * PATIENCE_SEC):
            newest = alone.newest(self.folder + "/out")
            if not newest:
                raise SystemExit(f"proof.py: {self.folder}/log: it does not start")
            self.damaged += 1  # what the kill left is not whole
            os.rename(newest, f"{self.folder}/damaged-{self.damaged}")
            begins = self.begins()
            self.restart()
        return False


def run_alone(work, command, script, faults):
    """The faults that can happen without bertd. A pause is SIGTERM and a start by hand, as nothing else is there."""
    program, survived, times = Alone(work, command), {}, []
    for at, fault in faults:
        if fault in ("shim", "bertd"):
            continue
        wait(lambda: program.step() >= at, f"{script} alone: no step {at}")
        begins, spent = program.begins(), Timed()
        hit(lambda: program.run.pid if fault in ("launcher", "pause") else max(ranks(program.run.pid, script), default=None),
            {"pause": signal.SIGTERM, "hang": signal.SIGSTOP}.get(fault, signal.SIGKILL))
        alive = program.tend(begins)
        survived.setdefault(fault, []).append(alive)
        times += [spent()] if alive else []
        note(f"{script} alone: {fault} after step {at}: {'continues' if alive else 'started by hand'} after {spent():.1f} s")
    wait(program.ended, f"{script} alone does not end")
    return program, survived, times


def median(values):
    return sorted(values)[len(values) // 2]


def described(times):
    return f"{median(times):.1f} ({max(times):.1f})" if times else "–"


def answer(survived, fault):
    return f"{sum(survived.get(fault, []))} of {len(survived.get(fault, []))}"


class Program:
    """One of PROGRAMS: an undisturbed run and one under faults, tasks of a pool."""

    def __init__(self, name, pool, work, args):
        launcher, self.script = PROGRAMS[name]
        self.name, self.work, self.steps, self.command = name, tempfile.mkdtemp(dir=work), args.steps, program_of(name, args.text, args.steps)
        self.faults = plan(name, args.steps, args.kills)
        self.restarts = ["--max-restarts", "20"] if launcher is TORCHRUN else []
        self.unattended = ["nohup", *launcher, *self.restarts, *self.command[len(launcher):]]
        self.begin(pool)

    def folder(self):
        return tempfile.mkdtemp(dir=self.work)


class Supervised(Program):
    def begin(self, pool):
        self.disturbed = pool.submit(run_disturbed, self.folder(), self.command, self.script, self.faults)
        self.quiet = pool.submit(run_quiet, self.folder(), self.command)

    def finish(self):
        self.quiet_sec, quiet = self.quiet.result()
        self.sec, self.job, path, self.times = self.disturbed.result()
        self.lost, self.weights = self.job["lost_steps"], difference(quiet, path)
        self.held = self.weights == "identical" or difference(quiet, run_paused(self.folder(), self.command, self.steps)) != "identical"
        note(f"{self.name}: {self.result()}")

    def result(self):
        return f"| {self.name} | {self.weights} | {self.job['attempts']} | {self.lost} | {self.quiet_sec:.0f} s | {self.sec:.0f} s |"

    def waits(self):
        return f"| {self.name} | " + " | ".join(described(self.times[fault]) for fault in FAULTS) + " |"


class Unattended(Program):
    held = True

    def begin(self, pool):
        self.disturbed = pool.submit(run_alone, self.folder(), self.unattended, self.script, self.faults)
        self.quiet = pool.submit(run_alone, self.folder(), self.unattended, self.script, [])

    def finish(self):
        quiet = alone.newest(self.quiet.result()[0].folder + "/out")
        self.person, self.survived, self.times = self.disturbed.result()
        self.lost, self.weights = self.person.lost(), difference(quiet, alone.newest(self.person.folder + "/out"))
        note(f"{self.name}: {self.result()}")

    def result(self):
        person = self.person
        cells = [answer(self.survived, fault) for fault in ("rank", "launcher", "pause", "hang")]
        cells += [described(self.times), person.by_hand, person.leftovers, person.damaged, self.lost, self.weights]
        return f"| {self.name}, `nohup {'torchrun --max-restarts 20' if self.restarts else 'python'}` | " + " | ".join(map(str, cells)) + " |"


OVERHEAD = f"""
import time, bertd
spent = 0
for step in range(1, 1001):
    begun = time.perf_counter()
    while time.perf_counter() - begun < {STEP_SEC}:
        pass
    begun = time.perf_counter()
    bertd.report(step=step, steps=1000, loss=1.0, rate=100.0)
    bertd.stopping()
    spent += time.perf_counter() - begun
begun = time.process_time()
for step in range(100000):
    bertd.report(step=step, steps=100000, loss=1.0, rate=100.0)
    bertd.stopping()
print(spent / 1000, (time.process_time() - begun) / 100000)
"""


def idle_share(seconds):
    """Of the machine's processors, over some seconds."""

    def read():
        return [int(word) for word in open("/proc/stat").readline().split()[1:9]]

    before = read()
    time.sleep(seconds)
    spent = [b - a for a, b in zip(before, read())]
    return (spent[3] + spent[4]) / sum(spent)


def overhead(work, limit=60):
    """(seconds that report() and stopping() take in a step of 10 ms, of processor time back to back: each sorted, of some runs; share of the
    machine that was idle). Waits for a calm machine first."""
    waited = Timed()
    idle = idle_share(2)
    while idle < 1 - CALM and waited() < limit:
        time.sleep(10)
        idle = idle_share(2)
    found = []
    with Host(work) as host:
        for _ in range(OVERHEAD_RUNS):
            number = host.submit(sys.executable, "-c", OVERHEAD)
            host.ctl("wait", number)
            found.append([float(word) for word in host.ctl("logs", number).stdout.split()[-2:]])
            note("overhead: %.1f µs in a step, %.2f µs of processor time" % tuple(seconds * 1e6 for seconds in found[-1]))
    return *(sorted(column) for column in zip(*found)), idle


def print_supervised(programs, args):
    exact = sum(program.weights == "identical" for program in programs)
    print(f"{exact} of {len(programs)} programs end with the weights of an undisturbed run, bit for bit, after {args.kills} kills, 2 pauses and a hang "
          f"each; nobody had to start one; steps done again: {sum(program.lost for program in programs)}.\n")
    print("| program | weights | attempts | steps lost | undisturbed | with the faults |")
    print("|---|---|---|---|---|---|")
    print(*(program.result() for program in programs), sep="\n")
    print(f"\nWeights after {args.steps} steps beside the undisturbed run's: identical, or the largest difference. {args.at_a_time} runs at a time.\n")
    print(f"Seconds from a fault to the first new step, median (longest); a hang is noticed after {HANG_SEC} s, back-off included. While bertd is dead "
          "the program runs on:\n")
    print("| program | rank killed | launcher | shim | bertd | pause | hang |")
    print("|---|---|---|---|---|---|---|")
    print(*(program.waits() for program in programs), sep="\n")


def print_unattended(programs, args):
    print(f"The same programs and moments without bertd: {sum(program.person.by_hand for program in programs)} starts by hand; "
          f"steps done again: {sum(program.lost for program in programs)}.\n")
    print("Each start loads the newest checkpoint (tests/python/alone). Faults after which the program continued by itself; a pause is SIGTERM, and a "
          f"program without a step for {PATIENCE_SEC} s is killed and started at once. {args.steps} steps, {args.at_a_time} runs at a time:\n")
    print("| program, started by | rank killed | launcher | pause | hang | seconds to a new step, by itself | started by hand | ranks left running | "
          "checkpoints not whole | steps lost | weights |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print(*(program.result() for program in programs), sep="\n")


def prove(kind, show, work, args):
    with concurrent.futures.ThreadPoolExecutor(args.at_a_time) as pool:
        programs = [kind(name, pool, work, args) for name in PROGRAMS if args.only in name]
        for program in programs:
            program.finish()
    show(programs, args)
    return all(program.held for program in programs)


def measure_overhead(work):
    spent, cpu, idle = overhead(work)
    print(f"`report()` and `stopping()` of a job together take {median(cpu) * 1e6:.1f} µs of processor time when called back to back, and "
          f"{median(spent) * 1e6:.1f} µs ({spent[0] * 1e6:.1f} to {spent[-1] * 1e6:.1f}) once in a step of 10 ms.\n")
    print(f"Medians of {OVERHEAD_RUNS} runs of 100,000 calls and of 1000 steps; other programs kept {1 - idle:.0%} of the machine busy. The bound for the second "
          f"figure is {BOUND:.1%} of a step of 10 ms, {BOUND * STEP_SEC * 1e6:.0f} µs.")
    return median(spent) < BOUND * STEP_SEC


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("faults", "alone", "overhead"))
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--at-a-time", type=int, default=1)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    work = os.path.realpath(tempfile.mkdtemp(prefix="bertd-python-"))
    held = {"faults": lambda: prove(Supervised, print_supervised, work, args), "alone": lambda: prove(Unattended, print_unattended, work, args),
            "overhead": lambda: measure_overhead(work)}[args.part]()
    shutil.rmtree(work, ignore_errors=True)
    return 0 if held else 1


sys.exit(main())
