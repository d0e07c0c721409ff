"""One job over several hosts, one fault, and what came of it: when it was detected, when mpirun and training were back, what was left."""
import dataclasses
import os
import random
import threading
import time

import bed as beds

SPEC = """name: {name}
kind: pretrain
run_dir: /home/alice/{name}
resources: {{ranks: {ranks}, threads: 1{where}}}
restart: {{max_without_progress: 3, backoff_sec: [1, 4]{restart}}}
checkpoint: {{every_steps: {every}, keep: 3{copy}}}
model: {{config: /srv/corpus/config.json, vocab: /srv/corpus/vocab.txt}}
data: {{train: [/srv/corpus/train], sequence_length: 32}}
train: {{global_batch: {batch}, micro_batch: 4, steps: {steps}, seed: 42, log_every: 1}}
"""
STEPS, EVERY = 300, 40
SETTLE = 10  # seconds after the detection at which nothing of the old gang may live


def spec(name, hosts, use, steps=STEPS, timeout=20, copy="", ranks=1, batch=24, every=EVERY, more=""):
    where = f", hosts: [{', '.join(hosts)}], use: {use}, host_timeout_sec: {timeout}{more}" if hosts else ""
    return SPEC.format(name=name, where=where, restart=", host_cooldown_sec: [10, 60]" if hosts else "", steps=steps, every=every, ranks=ranks,
                       batch=batch, copy=f", copy_to: {copy}" if copy else "")


@dataclasses.dataclass
class Row:
    """A line of the report; seconds since the fault, then since the detection; None: it did not happen."""
    fault: str
    detected: float = None
    again: float = None
    first_step: float = None
    lost: int = None
    orphans: list = dataclasses.field(default_factory=list)
    attempts: int = None
    weights: str = ""
    reason: str = ""
    hosts: list = None


@dataclasses.dataclass
class Look:
    when: float
    state: str
    attempt: int
    step: int
    launcher: beds.Process
    hosts: list


class Watch(threading.Thread):
    """Looks at the job five times a second: its state, attempt and step, and the head's mpirun."""

    def __init__(self, job):
        super().__init__(daemon=True)
        self.job, self.looks, self.stopped = job, [], False
        self.start()

    def run(self):
        while not self.stopped:
            fields, launchers = self.job.fields(), beds.find(self.job.host, "mpirun")
            if fields:
                self.looks.append(Look(time.time(), fields["state"], fields["attempts"], fields["step"], launchers[-1] if launchers else None,
                                       fields.get("hosts_in_use")))
            time.sleep(0.2)

    def stop(self):
        self.stopped = True
        self.join()

    def detected(self, moment, attempt):
        """When the attempt was no longer running, as the head's bertd says."""
        return next((look.when for look in list(self.looks) if look.when > moment and (look.state != "running" or look.attempt > attempt)), None)

    def again(self, moment, old):
        """When a new mpirun was there, and when its first step was."""
        looks = [look for look in self.looks if look.when > moment and look.launcher and look.launcher.key() not in old]
        if not looks:
            return None, None
        return looks[0].launcher.started(), next((look.when for look in looks if look.step != looks[0].step), None)


class Trial:
    """A job that trains; `strike` does something to it."""

    def __init__(self, bed, name, hosts, use, head=1, moment=None, **options):
        self.begin(bed, name, head, spec(name, hosts, use, **options), random.randint(EVERY + 5, 3 * EVERY) if moment is None else moment)

    @classmethod
    def of(cls, bed, name, text, moment):
        """Of any spec, that has made so many steps."""
        trial = cls.__new__(cls)
        trial.begin(bed, name, 1, text, moment)
        return trial

    def begin(self, bed, name, head, text, moment):
        self.bed, self.name, self.job = bed, name, bed.submit(head, text)
        self.job.trains(moment)

    def strike(self, fault, undo=None, stops=True, limit=120):
        """The row of this fault. `undo` comes once the old gang was looked for; a fault that stops nothing may leave it as it is."""
        row, gang = Row(self.name), self.bed.gang()
        attempt, old = self.job.fields()["attempts"], {p.key() for p in gang}
        watch = Watch(self.job)
        try:
            moment = time.time()
            fault()
            if stops:
                detected = beds.wait(lambda: watch.detected(moment, attempt), f"{self.name}: nothing was detected", limit)
                row.detected = round(detected - moment, 1)
                time.sleep(max(0, detected + SETTLE - time.time()))
                row.orphans = [str(p) for p in self.bed.gang() if p.key() in old]
            if undo:
                undo()
            fields = self.job.finish()
            if stops:
                started, step = watch.again(moment, old)
                row.again = round(started - detected, 1) if started else None
                row.first_step = round(step - detected, 1) if step else None
                row.reason = next((e["reason"] for e in self.job.events() if e["from"] == "running" and e["to"] not in ("running", "done")), "")
            row.hosts = next((look.hosts for look in reversed(watch.looks) if look.state == "running"), None)
            row.lost, row.attempts = fields.get("lost_steps"), fields.get("attempts")
        finally:
            watch.stop()
        return row


def same(bed, host, path, reference):
    """What `bert-trainer diff` says of a checkpoint there and the reference, which lies on this machine."""
    target = bed.file(host, "/home/alice/reference.ckpt")
    if not target.exists():
        target.write_bytes(reference)
        os.chown(target, beds.ALICE, beds.ALICE)
    done = bed.alice(host, f"bert-trainer diff {path} reference.ckpt", check=False)
    return "identical" if done.returncode == 0 else (done.stdout + done.stderr).strip()[:200]
