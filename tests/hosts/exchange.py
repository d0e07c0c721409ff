#!/usr/bin/env python3
"""Seconds that ranks on one, two and three hosts exchange gradients for, over the bed's network; writes its section of docs/hosts.md for
scripts/test-hosts --exchange."""
import json
import statistics
import sys

import bed as beds

sys.path.insert(0, str(beds.ROOT / "tests"))
import report  # noqa: E402

STEPS = 12
SPEC = """name: exchange
kind: pretrain
resources: {{ranks: {ranks}, threads: 1}}
checkpoint: {{every_sec: 0}}
model: {{config: {config}, vocab: /srv/corpus/vocab.txt}}
data: {{train: [/srv/corpus/train], sequence_length: 32}}
train: {{global_batch: {batch}, micro_batch: 2, steps: {steps}, seed: 42}}
"""


def measure(bed, config, hosts, ranks):
    """Median seconds of exchange and of a step; that many ranks on each of the first hosts."""
    world = hosts * ranks
    bed.write(1, "/home/alice/exchange.yaml", SPEC.format(config=config, ranks=ranks, batch=2 * world, steps=STEPS))
    names = ",".join(f"h{host}:{ranks}" for host in range(1, hosts + 1))
    bed.alice(1, f"rm -rf exchange; mpirun -H {names} --bind-to none --oversubscribe --mca btl_tcp_if_include 10.77.0.0/24 -x OMP_NUM_THREADS=1 bert-trainer pretrain exchange.yaml --run-dir exchange")
    rows = [json.loads(line) for line in bed.file(1, "/home/alice/exchange/metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None][2:]
    return statistics.median(r["exchange_sec"] for r in rows), statistics.median(1 / r["steps_per_sec"] for r in rows)


def main():
    where = report.provenance()
    lines = ["| model | MB of gradients | two ranks on one host, ms | one rank on each of two, ms | on each of three, ms | GB/s of a ring of three |", "|---|---|---|---|---|---|"]
    with beds.Bed(3) as bed:
        for model in ("bert-tiny", "bert-small"):
            config = f"/srv/corpus/{model}.json"
            size = 4 * json.loads(bed.run(1, "bert-trainer", "params", "--json", config).stdout)["with_pretraining_heads"]
            took = [measure(bed, config, hosts, ranks)[0] for hosts, ranks in ((1, 2), (2, 1), (3, 1))]
            lines.append(f"| {model} | {size / 1e6:.0f} | {' | '.join(f'{seconds * 1e3:.0f}' for seconds in took)} | {4 / 3 * size / took[2] / 1e9:.2f} |")
            print(lines[-1], flush=True)
    report.write_section(beds.ROOT / "docs/hosts.md", "exchange", report.section("Exchange of gradients",
        "A ring of three hosts exchanges the gradients of the small model in {bert-small::4} ms, {bert-small::5} GB/s; two ranks on one host take {bert-small::2} ms.", "\n".join(lines), "\n".join([
        f"`scripts/test-hosts --exchange` {where}: all hosts share them, so a third rank computes at the others' cost, and the network is a bridge in the kernel.",
        f"`exchange_sec` of metrics.jsonl, median of {STEPS - 2} steps."])))


if __name__ == "__main__":
    main()
