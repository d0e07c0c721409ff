#!/usr/bin/env python3
"""A cable that is pulled under Slurm alone, in the same bed: how long until the job runs again. A section of docs/hosts.md for
scripts/test-hosts --slurm."""
import argparse
import random
import statistics
import subprocess
import sys
import time

import bed as beds
import trial

sys.path.insert(0, str(beds.ROOT / "tests"))
import report  # noqa: E402

HOSTS, WORLD = 4, 3
SCRIPT = """#!/bin/bash
#SBATCH --requeue --nodes=3 --ntasks-per-node=1 --open-mode=append --output=/shared/log
cd /shared
newest=$(ls -t run/checkpoints/*.ckpt 2>/dev/null | head -n 1)
mpirun --oversubscribe --mca btl_tcp_if_include 10.77.0.0/24 bert-trainer pretrain job.yaml --run-dir run ${newest:+--resume $newest}
"""


def state(bed, job):
    return bed.run(1, "squeue", "-h", "-j", job, "-o", "%T", check=False).stdout.strip()


def rows(shared):
    metrics = shared / "run/metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def once(bed):
    """Seconds from the cable to Slurm's verdict, from there to the job running again, and to its first new step."""
    shared = beds.DIR / "shared"
    subprocess.run(["rm", "-rf", shared / "run"], check=True)
    (shared / "job.yaml").write_text(trial.spec("slurm", None, None, steps=trial.STEPS, batch=24))
    (shared / "job.sh").write_text(SCRIPT)
    job = bed.alice(1, "sbatch --parsable /shared/job.sh").stdout.strip()
    moment = random.randint(trial.EVERY + 5, 2 * trial.EVERY)
    beds.wait(lambda: rows(shared) > moment, "the job makes no step under Slurm", 120)
    used = bed.run(1, "squeue", "-h", "-j", job, "-o", "%N").stdout
    host = 3 if "3" in used or "-" in used else 2
    old = {p.key() for p in bed.gang() if p.name == "bert-trainer"}
    bed.cut(host)
    cut = time.time()
    try:
        beds.wait(lambda: state(bed, job) != "RUNNING", "Slurm does not see it", 600)
        detected = time.time()
        time.sleep(trial.SETTLE)
        orphans = [p for p in bed.gang() if p.key() in old]
        beds.wait(lambda: state(bed, job) == "RUNNING", "Slurm does not run it again", 600)
        again, before = time.time(), rows(shared)
        beds.wait(lambda: 0 < rows(shared) < before or rows(shared) > before, "no step after the requeue", 120)
        return detected - cut, again - detected, time.time() - detected, len(orphans)
    finally:
        bed.run(1, "scancel", job, check=False)
        bed.join(host)


def write(where, found):
    """After each, so that a run that is broken off has written what it has."""
    lines = ["| detected after, s | running again after, s | first new step after, s | orphans 10 s after the detection |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(f"{value:.0f}" for value in row) + " |" for row in found]
    left = max(row[3] for row in found)
    finding = (f"Under Slurm alone the job runs again {statistics.median(row[1] for row in found):.0f} s after the loss of a node was detected, with {left:.0f} process{'' if left == 1 else 'es'} of the old ranks left 10 s "
               "after the detection.")
    report.write_section(beds.ROOT / "docs/hosts.md", "slurm", report.section("Slurm alone", finding, "\n".join(lines), "\n".join([
        f"`scripts/test-hosts --slurm{'' if len(found) == 3 else f' --times {len(found)}'}` {where}: the cable of one of three nodes, under Slurm 22.05 (`sbatch --requeue`, `SlurmdTimeout=20`,",
        "a fourth node idle), in the same bed. The run folder is shared. Slurm waits for SlurmdTimeout and its agents' own limits before it requeues."])))


def main():
    parser = argparse.ArgumentParser(prog="test-hosts --slurm")
    parser.add_argument("--times", type=int, default=3)
    where, found = report.provenance(), []
    for _ in range(parser.parse_args().times):
        with beds.Bed(HOSTS) as bed:
            subprocess.run([str(beds.ROOT / "tests/hosts/slurm"), str(HOSTS)], check=True)
            found.append(once(bed))
            print(found[-1], flush=True)
        write(where, found)


if __name__ == "__main__":
    main()
