#!/usr/bin/env python3
"""Faults of jobs over several hosts, each some times at random moments; writes docs/hosts.md for scripts/test-hosts.

    faults.py [--times N] [--only NAME]... [--list]

A row is kept in build-hosts/rows.jsonl as soon as it is there; rows of the commit that is measured are not made again.
"""
import argparse
import dataclasses
import json
import os
import random
import statistics
import sys
import threading
import time

import bed as beds
import short
import trial
from trial import EVERY, Row, Trial

sys.path.insert(0, str(beds.ROOT / "tests"))
import report  # noqa: E402

OTHER = "debian-13"
SECTION = OTHER if os.environ.get("CONTAINER_SUITE") == "trixie" else "faults"
ROWS = beds.ROOT / f"build-hosts/{SECTION}.jsonl"
HOSTS = ["h1", "h2", "h3", "h4"]
WORLD, BATCH = 3, 24


def other():
    return random.choice((2, 3))


def kill(name, host=None):
    """The newest process of that name on the host, or on one of the other two."""
    def fault(bed, began):
        victims = beds.find(host or other(), name)
        if not victims:
            raise beds.Failed(f"no process {name} to kill")
        return began.strike(victims[-1].kill)
    return fault


def survives(action, undo=None):
    """A fault that stops nothing: the run ends in its first attempt."""
    def fault(bed, began):
        row = began.strike(lambda: action(bed), undo and (lambda: undo(bed)), stops=False)
        if row.attempts != 1:
            raise beds.Failed(f"the run was started {row.attempts} times; {began.job.story()}")
        return row
    return fault


def cable(seconds=None):
    def fault(bed, began):
        host = other()
        if seconds:
            threading.Timer(seconds, bed.join, [host]).start()
        try:
            return began.strike(lambda: bed.cut(host))
        finally:
            bed.join(host)
    return fault


def cable_of_the_head(bed, began):
    threading.Timer(45, bed.join, [1]).start()
    return began.strike(lambda: bed.cut(1))


def power_of_another(bed, began):
    host = other()
    row = began.strike(lambda: bed.crash(host), lambda: bed.boot(host))
    return row


def out_for(bed, seconds):
    host = other()
    bed.cut(host)
    time.sleep(seconds)
    bed.join(host)


def upgrade(bed):
    """The programs are replaced as a package does it, bertd is restarted, host after host."""
    for host in range(1, bed.count + 1):
        bed.run(host, "sh", "-c", "for f in /usr/sbin/bertd /usr/bin/bertctl /usr/libexec/bertd/*; do [ -f $f ] && cp -p $f $f.new && mv $f.new $f; done; "
                                  "systemctl restart bertd")


def fill(bed):
    for host in (2, 3):
        bed.run(host, "sh", "-c", "head -c 64M /dev/zero >/var/lib/bertd/fill", check=False)


class Head:
    """What the head's power does: nobody there sees the fault, so the leases' end on the others counts."""

    @staticmethod
    def strike(bed, began, back):
        row, old = Row(began.name), {p.key() for p in bed.gang() if p.host != "1"}
        bed.crash(1)
        moment = time.time()
        beds.wait(lambda: not any(p.key() in old for p in bed.gang()), "the leases do not end", 60)
        row.detected = round(time.time() - moment, 1)
        time.sleep(trial.SETTLE)
        row.orphans = [str(p) for p in bed.gang() if p.key() in old]
        began.job = back(began.job)
        fields = began.job.finish()
        row.lost, row.attempts = fields.get("lost_steps"), fields.get("attempts")
        return row


def head_power(bed, began):
    def back(job):
        bed.boot(1)
        return job
    return Head.strike(bed, began, back)


def head_for_good(bed, began):
    bed.key(2)

    def back(_):
        bed.write(2, "/home/alice/continued.yaml", trial.spec(began.name, ["h2", "h3", "h4"], WORLD, batch=BATCH))
        return beds.Job(bed, 2, bed.alice(2, "bertctl submit --continue copies continued.yaml").stdout.strip())
    old = began.job
    row = Head.strike(bed, began, back)
    bed.boot(1)
    wait_bertd = lambda: bed.run(1, "bertctl", "list", check=False).returncode == 0  # noqa: E731
    beds.wait(wait_bertd, "h1: bertd does not answer", 60)
    old.cancel()  # its run lives elsewhere now, which nothing there can know
    return row


def reboot_all(bed, began):
    def fault():
        threads = [threading.Thread(target=bed.reboot, args=[host]) for host in range(1, bed.count + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    row, old = Row(began.name), {p.key() for p in bed.gang()}
    fault()
    row.orphans = [str(p) for p in bed.gang() if p.key() in old]
    fields = began.job.finish()
    row.lost, row.attempts = fields.get("lost_steps"), fields.get("attempts")
    return row


@dataclasses.dataclass
class Fault:
    name: str
    act: callable
    options: dict = dataclasses.field(default_factory=dict)
    before: callable = None
    after: callable = None
    brief: bool = False  # in the short list of a second Debian


def small_disk(bed):
    for host in (2, 3):
        bed.run(host, "sh", "-c", "systemctl stop bertd && mount -t tmpfs -o size=16m,mode=711 tmpfs /var/lib/bertd && systemctl start bertd")


def old_disk(bed):
    for host in (2, 3):
        bed.run(host, "sh", "-c", "systemctl stop bertd; umount /var/lib/bertd && systemctl start bertd")


FAULTS = [
    Fault("rank of another host, kill -9", kill("bert-trainer"), brief=True),
    Fault("rank of the head, kill -9", kill("bert-trainer", 1), brief=True),
    Fault("orted, kill -9", kill("orted"), brief=True),
    Fault("leash, kill -9", kill("bertd-leash"), brief=True),
    Fault("shim of a lease, kill -9", kill("bertd-shim")),
    Fault("shim of the head, kill -9", kill("bertd-shim", 1)),
    Fault("gang of the head, kill -9", kill("bertd-gang", 1), brief=True),
    Fault("mpirun, kill -9", kill("mpirun", 1), brief=True),
    Fault("bertd of the head, kill -9", survives(lambda bed: beds.find(1, "bertd")[-1].kill())),
    Fault("bertd of another host, kill -9", survives(lambda bed: beds.find(other(), "bertd")[-1].kill())),
    Fault("cable of another host, for good", cable(), brief=True),
    Fault("the same, host_timeout_sec 8", cable(), dict(timeout=8)),
    Fault("the same, host_timeout_sec 40", cable(), dict(timeout=40)),
    Fault("cable of another host, 20 s", cable(20)),
    Fault("cable of another host, 10 s", survives(lambda bed: out_for(bed, 10))),
    Fault("cable of the head, 45 s", cable_of_the_head),
    Fault("another host powered off, booted later", power_of_another),
    Fault("head powered off and booted", head_power),
    Fault("head powered off for good", head_for_good, dict(copy="h2:/home/alice/copies", moment=3 * EVERY)),
    Fault("disk full on the other hosts", survives(fill), before=small_disk, after=old_disk),
    Fault("upgrade of bertd on each", survives(upgrade)),
    Fault("all rebooted", reboot_all),
]


def two_jobs(bed):
    """Two heads that want one another's hosts, all slots of both, at the same moment."""
    bed.key(2)
    jobs = {}

    def submit(head, other_one):
        bed.write(head, "/home/alice/both.yaml", trial.spec(f"both{head}", [f"h{head}", f"h{other_one}"], 2, ranks=2, batch=16, steps=120))
        jobs[head] = beds.Job(bed, head, bed.alice(head, "bertctl submit both.yaml").stdout.strip())
    threads = [threading.Thread(target=submit, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fields = [jobs[head].finish() for head in (1, 2)]
    second = bed.file(2, jobs[2].checkpoint()).read_bytes()
    return Row("two jobs that want the same hosts at once", lost=sum(f["lost_steps"] for f in fields), attempts=max(f["attempts"] for f in fields),
               weights=trial.same(bed, 1, jobs[1].checkpoint(), second))


COMMAND = """name: ring
kind: command
command: [python3, /srv/ring.py, "{steps}", "0.1"]
run_dir: /home/alice/ring
resources: {{ranks: 1, hosts: [h1, h2, h3, h4], use: 3, network: 10.77.0.0/24}}
restart: {{backoff_sec: [1, 4]}}
"""


def command(bed):
    """A program that is no trainer: a spare takes the place of a host that is cut off."""
    steps = 300
    bed.alice(1, "mkdir -p ring")
    began = Trial.of(bed, "a command: cable of another host, for good", COMMAND.format(steps=steps), 50)
    row = began.strike(lambda: bed.cut(2))
    total = bed.file(1, f"/home/alice/ring/sum-{steps}").read_text().split()
    wanted = (1 + 2) * steps * (steps + 1) // 2
    row.weights = "identical" if total == [str(steps), str(wanted)] else f"{total} instead of {wanted}"
    return row


def many(count):
    """One of so many hosts is cut off, a spare takes its place."""
    def scenario(bed):
        names = [f"h{host}" for host in range(1, count + 2)]
        wanted = short.reference(bed, count, 8 * count, steps=120)
        began = Trial(bed, f"of{count}", names, count, batch=8 * count, steps=120, every=20, moment=30)
        row = began.strike(lambda: bed.cut(count))
        row.fault, row.weights = f"{count} hosts and a spare: cable of one, for good", trial.same(bed, 1, began.job.checkpoint(), wanted)
        return row
    return scenario


@dataclasses.dataclass
class Scenario:
    """One that is more than a job and a fault, in a bed of its own."""
    name: str
    act: callable
    hosts: int


SCENARIOS = [
    Scenario("two jobs that want the same hosts at once", two_jobs, 2),
    Scenario("a command: cable of another host, for good", command, 4),
    Scenario("5 hosts and a spare: cable of one, for good", many(5), 6),
    Scenario("8 hosts and a spare: cable of one, for good", many(8), 9),
]


class Bench:
    """A bed that is made anew after a trial that failed, and the rows."""

    def __init__(self, hosts):
        self.hosts, self.bed, self.reference, self.number = hosts, None, None, 0

    def ready(self):
        if not self.bed:
            self.bed = beds.Bed(self.hosts).__enter__()
            self.reference = short.reference(self.bed, WORLD, BATCH)
        return self.bed

    def drop(self):
        if self.bed:
            self.bed.__exit__()
        self.bed = None

    def trial(self, fault):
        bed, began = self.ready(), None
        self.number += 1
        try:
            if fault.before:
                fault.before(bed)
            began = Trial(bed, f"run{self.number}", HOSTS, WORLD, batch=BATCH, **fault.options)
            began.name = fault.name
            row = fault.act(bed, began)
            row.fault = fault.name
            row.weights = trial.same(bed, began.job.host, began.job.checkpoint(), self.reference)
            beds.wait(lambda: not bed.gang(), "processes are left", 30)
            if fault.after:
                fault.after(bed)
        except beds.Failed as problem:
            beds.note(f"{fault.name}: {problem}\n{began.job.story() if began else ''}")
            row = Row(fault.name, weights=f"failed: {str(problem).splitlines()[0][:160]}")
            self.drop()
        return row


def play(scenario):
    try:
        with beds.Bed(scenario.hosts) as bed:
            return scenario.act(bed)
    except beds.Failed as problem:
        beds.note(f"{scenario.name}: {problem}")
        return Row(scenario.name, weights=f"failed: {str(problem).splitlines()[0][:160]}")


def kept(commit):
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    return [Row(**row["row"]) for row in rows if row["commit"] == commit]


def keep(commit, row):
    ROWS.parent.mkdir(exist_ok=True)
    with ROWS.open("a") as file:
        file.write(json.dumps(dict(commit=commit, row=dataclasses.asdict(row))) + "\n")


def figure(values):
    values = [v for v in values if v is not None]
    if not values:
        return "–"
    return f"{statistics.median(values):.1f}" + (f" ({max(values):.1f})" if len(values) > 1 else "")


def table(rows):
    lines = ["| fault | times | detected after, s | mpirun again after, s | first new step after, s | steps lost | attempts | orphans | weights |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row.fault for row in rows):
        of = [row for row in rows if row.fault == name]
        lost = [row.lost for row in of if row.lost is not None]
        weights = sorted({row.weights for row in of})
        lines.append(f"| {name} | {len(of)} | {figure([r.detected for r in of])} | {figure([r.again for r in of])} | {figure([r.first_step for r in of])} | "
                     f"{f'{statistics.median(lost):.0f} ({max(lost)})' if lost else '–'} | {figure([r.attempts for r in of]).split('.')[0]} | "
                     f"{sum(len(r.orphans) for r in of)} | {'; '.join(weights)} |")
    return "\n".join(lines)


def finding(rows):
    """What holds of all faults, in a sentence or two."""
    same, orphans = sum(row.weights == "identical" for row in rows), sum(len(row.orphans) for row in rows)
    detected, again = [[v for v in (getattr(row, name) for row in rows) if v is not None] for name in ("detected", "again")]
    words = f"After {same} of {len(rows)} faults the run ends with the weights of an undisturbed one; {orphans} processes of the old ranks are left on any host {trial.SETTLE} s after the detection."
    return words + (f"\nA fault is detected after at most {max(detected):.1f} s, and mpirun runs again {statistics.median(again):.1f} s later (median)." if detected and again else "")


def write(command, where, rows, section):
    if section == OTHER:
        report.write_section(beds.ROOT / "docs/hosts.md", section, report.section("Debian 13", finding(rows), table(rows),
                             f"`{command}` {where}: some of these faults on hosts of Debian 13, which has Open MPI 5."))
        return
    report.write_section(beds.ROOT / "docs/hosts.md", section, report.section("Faults", finding(rows), f"""{table(rows)}

**Detected** counts from the fault, the next two columns from the detection; a dash: nothing was stopped, or it was not seen. Medians, in parentheses the worst.
**Orphans**: processes of the old gang on any host, also one that is cut off, {trial.SETTLE} s after the detection. **Weights**: the last checkpoint beside that of an
undisturbed run of three ranks on one host.""", f"""`{command}` {where}, all hosts of the bed sharing them: four booted systemd hosts with sshd and bertd.service in containers, a bridge between them, a job with one rank on each of three
hosts and the fourth as a spare (`{trial.STEPS}` steps of a small BERT, a checkpoint each {EVERY}), `host_timeout_sec` 20 unless a row states another. Each fault comes at a random moment.
The last rows, each once, have separate beds."""))


def main():
    parser = argparse.ArgumentParser(prog="test-hosts")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a fault whose name contains this")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    known = FAULTS + SCENARIOS if SECTION != OTHER else [f for f in FAULTS if f.brief] + [s for s in SCENARIOS if s.act == command]
    wanted = [f for f in known if not options.only or any(o in f.name for o in options.only)]
    if options.list or not wanted:
        print("\n".join(f.name for f in FAULTS + SCENARIOS))
        return 0 if options.list else 2
    where, commit = report.provenance(), report.git("rev-parse", "HEAD")
    bench, rows = Bench(len(HOSTS)), kept(commit)
    try:
        for fault in wanted:
            times = options.times if isinstance(fault, Fault) else 1
            for _ in range(times - len([r for r in rows if r.fault == fault.name])):
                if isinstance(fault, Fault):
                    row = bench.trial(fault)
                else:
                    bench.drop()
                    row = play(fault)
                print(row, flush=True)
                rows.append(row)
                keep(commit, row)
            if not options.only:
                words = ["scripts/test-hosts"] + ["--debian-13"] * (SECTION == OTHER) + [f"--times {options.times}"] * (options.times != 3)
                write(" ".join(words), where, rows, SECTION)
    finally:
        bench.drop()
    print(table(rows))
    return any(row.weights != "identical" or row.orphans for row in rows)


if __name__ == "__main__":
    sys.exit(main())
