#!/usr/bin/env python3
"""Faults of jobs over several hosts, each some times at random moments; writes docs/hosts.md for scripts/test-hosts.

    faults.py [--times N] [--only NAME]... [--list]

A row is kept in build-hosts/rows.jsonl as soon as it is there; rows of the commit that is measured are not made again.
"""
import argparse
import dataclasses
import json
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

ROWS = beds.ROOT / "build-hosts/rows.jsonl"
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
    row = Head.strike(bed, began, back)
    bed.boot(1)
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


def small_disk(bed):
    for host in (2, 3):
        bed.run(host, "sh", "-c", "systemctl stop bertd && mount -t tmpfs -o size=16m,mode=711 tmpfs /var/lib/bertd && systemctl start bertd")


def old_disk(bed):
    for host in (2, 3):
        bed.run(host, "sh", "-c", "systemctl stop bertd; umount /var/lib/bertd && systemctl start bertd")


FAULTS = [
    Fault("rank of another host, kill -9", kill("bert-trainer")),
    Fault("rank of the head, kill -9", kill("bert-trainer", 1)),
    Fault("orted, kill -9", kill("orted")),
    Fault("leash, kill -9", kill("bertd-leash")),
    Fault("shim of a lease, kill -9", kill("bertd-shim")),
    Fault("shim of the head, kill -9", kill("bertd-shim", 1)),
    Fault("gang of the head, kill -9", kill("bertd-gang", 1)),
    Fault("mpirun, kill -9", kill("mpirun", 1)),
    Fault("bertd of the head, kill -9", survives(lambda bed: beds.find(1, "bertd")[-1].kill())),
    Fault("bertd of another host, kill -9", survives(lambda bed: beds.find(other(), "bertd")[-1].kill())),
    Fault("cable of another host, for good", cable()),
    Fault("the same, host_timeout_sec 8", cable(), dict(timeout=8)),
    Fault("the same, host_timeout_sec 40", cable(), dict(timeout=40)),
    Fault("cable of another host, 20 s", cable(20)),
    Fault("cable of another host, 10 s", survives(lambda bed: out_for(bed, 10))),
    Fault("cable of the head, 45 s", cable_of_the_head),
    Fault("another host powered off, booted later", power_of_another),
    Fault("head powered off and booted", head_power),
    Fault("head powered off for good", head_for_good, dict(copy="h2:/home/alice/copies")),
    Fault("disk full on the other hosts", survives(fill), before=small_disk, after=old_disk),
    Fault("upgrade of bertd on each", survives(upgrade)),
    Fault("all rebooted", reboot_all),
]


class Bench:
    """A bed that is made anew after a trial that failed, and the rows."""

    def __init__(self, hosts):
        self.hosts, self.bed, self.reference, self.number = hosts, None, None, 0

    def ready(self):
        if not self.bed:
            self.bed = beds.Bed(self.hosts).__enter__()
            self.reference = self.reference or short.reference(self.bed, WORLD, BATCH)
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


def write(command, where, rows):
    report.write_section(beds.ROOT / "docs/hosts.md", "faults", f"""
`{command}` {where}, all hosts of the bed sharing them: four booted systemd hosts with sshd and bertd.service in containers, a bridge between them, a job with one rank on each of three
hosts and the fourth as a spare (`{trial.STEPS}` steps of a small BERT, a checkpoint each {EVERY}), `host_timeout_sec` 20 but where a row states another. Each fault comes at a random moment.
Medians, in parentheses the worst. **Detected** counts from the fault, the next two columns from the detection; a dash: nothing was
stopped, or nobody was there to see it. **Orphans**: processes of the old gang on any host, also one that is cut off, {trial.SETTLE} s after the detection.
**Weights**: the last checkpoint beside that of an undisturbed run of three ranks on one host.

{table(rows)}
""")


def main():
    parser = argparse.ArgumentParser(prog="test-hosts")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a fault whose name contains this")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    wanted = [f for f in FAULTS if not options.only or any(o in f.name for o in options.only)]
    if options.list or not wanted:
        print("\n".join(f.name for f in FAULTS))
        return 0 if options.list else 2
    where, commit = report.provenance(), report.git("rev-parse", "HEAD")
    bench, rows = Bench(len(HOSTS)), kept(commit)
    try:
        for fault in wanted:
            for _ in range(options.times - len([r for r in rows if r.fault == fault.name])):
                row = bench.trial(fault)
                print(row, flush=True)
                rows.append(row)
                keep(commit, row)
            if not options.only:
                write(f"scripts/test-hosts{'' if options.times == 3 else f' --times {options.times}'}", where, rows)
    finally:
        bench.drop()
    print(table(rows))
    return any(row.weights != "identical" or row.orphans for row in rows)


if __name__ == "__main__":
    sys.exit(main())
