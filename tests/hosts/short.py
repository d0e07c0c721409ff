#!/usr/bin/env python3
"""Two hosts and a spare, a cable that is pulled: the short form of scripts/test-hosts. Prints TAP."""
import json
import sys
import time

import bed as beds
import trial

STEPS = 2 * trial.STEPS  # it is looked at before it is struck, which a fast machine must not outrun
TIMEOUT = 8  # resources.host_timeout_sec, as short as it may be
points = failed = 0


def ok(what, right, said=""):
    global points, failed
    points, failed = points + 1, failed + (not right)
    print(f"{'ok' if right else 'not ok'} {points} - {what}", flush=True)
    if not right and said:
        print("\n".join("# " + line for line in str(said).splitlines()), flush=True)


def reference(bed, ranks, batch, steps=trial.STEPS):
    """The weights of an undisturbed run of as many ranks on one host, without bertd."""
    bed.write(1, "/home/alice/alone.yaml", trial.spec("alone", None, None, steps=steps, batch=batch, ranks=ranks))
    bed.alice(1, f"mpirun --oversubscribe -n {ranks} bert-trainer pretrain alone.yaml --run-dir alone")
    return bed.file(1, f"/home/alice/alone/checkpoints/step-{steps:09}.ckpt").read_bytes()


def leases(bed, host):
    """Those that are not over."""
    jobs = json.loads(bed.run(host, "bertctl", "list", "--json").stdout)
    return [job for job in jobs if job["kind"] == "lease" and job["state"] not in beds.ENDED]


def short(bed):
    wanted = reference(bed, 2, 16, steps=STEPS)
    began = trial.Trial(bed, "short", ["h1", "h2", "h3"], 2, batch=16, timeout=TIMEOUT, moment=50, steps=STEPS)
    ok("a job trains on two hosts of three", True)
    fields = began.job.fields()
    ok("which status names", fields.get("hosts_in_use") == ["h1", "h2"], fields.get("hosts_in_use"))
    ok("with as many ranks", fields.get("world") == 2, fields.get("world"))
    ok("h2 shows the lease", len(leases(bed, 2)) == 1, bed.run(2, "bertctl", "list").stdout)
    ok("h3, the spare, has none", not leases(bed, 3))
    row = began.strike(lambda: bed.cut(2), lambda: bed.join(2))
    beds.note(row)
    ok(f"h2's cable is pulled: detected within {TIMEOUT + 2} s", row.detected is not None and row.detected <= TIMEOUT + 2, row)
    ok("and named", row.reason.startswith("h2: silent"), row.reason)
    ok("nothing of the old gang lives 10 s later, on the console of h2 neither", not row.orphans, "\n".join(row.orphans))
    ok("mpirun is back 10 s and a back-off later", row.again is not None and row.again <= 14, row)
    ok("on h1 and h3", row.hosts == ["h1", "h3"], row)
    ok("no step was lost but those since the checkpoint", row.lost is not None and row.lost < trial.EVERY + 60, row)
    same = trial.same(bed, 1, began.job.checkpoint(), wanted)
    ok("the weights are those of an undisturbed run", same == "identical", same)
    ok("the leases are over", beds.wait(lambda: not any(leases(bed, host) for host in (2, 3)), "a lease is left", 20))
    ok("and no process is left", not bed.gang(), "\n".join(map(str, bed.gang())))


def run(bed, cases, names):
    """Each of the cases, or those of these names; the status that the program ends with."""
    for case in cases:
        if names and case.__name__ not in names:
            continue
        beds.note(case.__name__)
        try:
            case(bed)
        except beds.Failed as problem:
            ok(case.__name__, False, problem)
            for host in range(2, bed.count + 1):
                bed.join(host)
            for job in json.loads(bed.run(1, "bertctl", "list", "--json").stdout):
                beds.Job(bed, 1, job["id"]).cancel()
        beds.wait(lambda: not bed.gang(), f"{case.__name__}: processes are left", 60)
    print(f"1..{points}")
    return failed > 0


def main():
    start = time.monotonic()
    try:
        with beds.Bed(3) as bed:
            beds.note(f"three hosts are up after {time.monotonic() - start:.0f} s")
            short(bed)
    except beds.Failed as problem:
        ok("the test ran to its end", False, problem)
    print(f"1..{points}")
    beds.note(f"{time.monotonic() - start:.0f} s")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
