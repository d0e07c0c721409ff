#!/usr/bin/env python3
"""The programs of examples/python on three hosts and a spare: a cable is pulled, a pause. Prints TAP.

    examples.py [NAME]...     only these

Needs PyTorch at the same path on every host: HOSTS_PYTHON, a folder that the hosts show, too.
"""
import os
import shlex
import sys

import bed as beds
import short
from short import TIMEOUT, ok

PYTHON = os.environ["HOSTS_PYTHON"]
WORK = "/home/alice/examples"
TORCHRUN = ("exec torchrun --nnodes $NNODES --node-rank $NODE_RANK --nproc-per-node 1 --master-addr $MASTER_ADDR --master-port $MASTER_PORT "
            "torchrun.py byte_model.py {steps}")
SPEC = """name: {name}
kind: command
command: [sh, -c, {line}]
run_dir: {run_dir}
resources: {{ranks: 1, threads: 1, hosts: [h1, h2, h3, h4], use: 3, host_timeout_sec: {timeout}}}
restart: {{max_without_progress: 3, backoff_sec: [1, 4], host_cooldown_sec: [10, 60], grace_sec: 60}}
"""
# Of three ranks a sum depends on where a parameter lies in PyTorch's buckets, which it orders anew after the first step of an attempt.
CLOSE = 1e-4
DIFFERENCE = """
import sys, torch
a, b = (torch.load(path, weights_only=True) for path in sys.argv[1:])
assert a["step"] == b["step"], (a["step"], b["step"])
print(max((a["model"][k] - b["model"][k]).abs().max().item() for k in a["model"]))
"""


def begin(bed, name, line, run_dir):
    text = SPEC.format(name=name, line=shlex.quote(line), run_dir=run_dir, timeout=TIMEOUT)
    bed.write(1, f"{WORK}/{name}.yaml", text)
    told = f"cd {WORK} && PATH={PYTHON}/bin:$PATH OMP_NUM_THREADS=1 bertctl submit {name}.yaml"
    return beds.Job(bed, 1, bed.alice(1, told).stdout.strip())


def log(job):
    return job.bed.run(1, "bertctl", "logs", "-n", "200", job.number).stdout


def close(bed, what, a, b):
    bed.write(1, f"{WORK}/difference.py", DIFFERENCE)
    difference = float(bed.alice(1, f"{PYTHON}/bin/python {WORK}/difference.py {a} {b}").stdout)
    beds.note(f"the largest difference of a weight: {difference:g}")
    ok(f"{what}: the weights are those of an undisturbed run, but for the order of sums", difference <= CLOSE, difference)


def good(job):
    rows = short.json.loads(job.bed.run(1, "bertctl", "checkpoints", "--json", job.number).stdout)
    return [row["step"] for row in rows if row["state"] == "good"]


def loses_a_host(bed, name, line, run_dir):
    """The job, at its end."""
    job = begin(bed, name, line, run_dir)
    beds.wait(lambda: good(job), f"{name}: no checkpoint", 180)
    ok(f"{name} trains on three hosts", job.fields().get("hosts_in_use") == ["h1", "h2", "h3"], job.story())
    bed.cut(2)
    try:
        beds.wait(lambda: job.state() == "running" and job.fields().get("hosts_in_use") == ["h1", "h3", "h4"], f"{name}: no spare\n{job.story()}", 90)
        ok(f"{name}: h2's cable is pulled: h4 takes its place", True)
    finally:
        bed.join(2)
    job.finish(300)
    ok(f"{name} goes on from its checkpoint to its end", "begin at" in log(job) and "begin at step 0" not in log(job), log(job))
    ok(f"{name}: no failure was counted", all(e["class"] in (None, "", "host-lost") for e in job.events() if e["to"] == "backoff"), job.story())
    return job


def torchrun(bed):
    """Each host has its own disk."""
    line = TORCHRUN.format(steps=300)
    begin(bed, "undisturbed", line, f"{WORK}/undisturbed").finish(300)
    loses_a_host(bed, "torchrun", line, f"{WORK}/torchrun")
    close(bed, "torchrun", f"{WORK}/undisturbed/step-300.pt", f"{WORK}/torchrun/step-300.pt")


def pause(bed):
    job = begin(bed, "paused", TORCHRUN.format(steps=300), f"{WORK}/paused")
    job.trains(60, 180)
    bed.alice(1, "bertctl pause paused")
    beds.wait(lambda: job.state() in beds.ENDED, "it is not paused", 90)
    ok("torchrun: a pause", job.state() == "paused", job.story())
    fields = job.fields()
    ok("torchrun: with a checkpoint of its last step", max(good(job)) == fields.get("step") and not fields.get("lost_steps"), job.story())
    bed.alice(1, "bertctl resume paused")
    job.finish(300)
    close(bed, "resumed", f"{WORK}/undisturbed/step-300.pt", f"{WORK}/paused/step-300.pt")


def huggingface(bed):
    loses_a_host(bed, "huggingface", "exec python3 hf_trainer.py byte_model.py 200", "/shared/huggingface")


def lightning(bed):
    loses_a_host(bed, "lightning", "exec python3 lightning_trainer.py byte_model.py 200", "/shared/lightning")


CASES = [torchrun, pause, huggingface, lightning]


def main():
    with beds.Bed(4) as bed:
        for host in range(1, 5):
            for file in [*(beds.ROOT / "examples/python").glob("*.py"), *(beds.ROOT / "python").glob("*.py")]:
                bed.write(host, f"{WORK}/{file.name}", file.read_text())
        return short.run(bed, CASES, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
