#!/usr/bin/env python3
"""Step times of data parallel training from a model: compute, bucketed ring all-reduce, overlap. Writes docs/scaling.md.

  scaling.py MEASURED    MEASURED: JSON of scripts/check-scaling: exchange seconds of two CPU ranks by model
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import report
BUCKET = 32 * 2 ** 20  # bytes, as trainer/run/buckets.c
LATENCY = 10e-6  # seconds of one hop of a ring: launch and link
BACKWARD = 2 / 3  # of a pass' time
# RECIPES: parameters with heads, TFLOP a sequence at 128
MODELS = {"base": (110.1e6, 0.0699), "large": (336.2e6, 0.2406)}
# What one GPU computes: peak TFLOP/s and the share of it that published runs reach (RECIPES' table; H100: our aim)
GPUS = {"V100, fp16": (125, 0.43), "V100, fp32": (15.7, 0.60), "H100, bf16": (989, 0.50)}
# Bus bandwidth of a ring, GB/s: among eight GPUs of a host, and between hosts, all of a host's links together
LINKS = {"NVLink V100": 130, "NVLink H100": 400, "10 Gb/s": 1.1, "25 Gb/s": 2.8, "100 Gb/s": 11, "4 × 100 Gb/s": 44, "8 × 400 Gb/s": 360}


def all_reduce(n, size, bandwidth):
    """Seconds of a ring all-reduce of `size` bytes in buckets over n ranks: 2(n − 1)/n of the bytes, 2(n − 1) hops a bucket."""
    buckets = max(1, round(size / BUCKET))
    return 2 * (n - 1) / n * size / (bandwidth * 1e9) + buckets * 2 * (n - 1) * LATENCY


def step(model, gpu, n, link, sequences):
    """Seconds: compute, all-reduce, what of it backward does not hide, the step."""
    parameters, flop = MODELS[model]
    peak, share = GPUS[gpu]
    compute = sequences * flop / (peak * share)
    inside = LINKS["NVLink H100" if gpu.startswith("H") else "NVLink V100"]
    exchange = all_reduce(n, 4 * parameters, LINKS[link] if n > 8 else inside)
    buckets = max(1, round(4 * parameters / BUCKET))
    hidden = min(exchange * (1 - 1 / buckets), BACKWARD * compute)  # the last bucket is ready when backward ends
    return compute, exchange, exchange - hidden, compute + exchange - hidden


# MLPerf training 4.1 of BERT large by NVIDIA: sequences/s of a GPU and sequences a GPU and step, on one host of eight H100s and on eight
# hosts (config_DGXH100_1x8x48x1_pack.sh, 8x8x36x1_pack.sh: packs of 512 tokens hold two sequences of 255)
MLPERF = {8: (970, 96), 64: (831, 72)}


def mlperf(bytes_a_gradient):
    """Throughput of a GPU on eight hosts over that on one, with their compute and our exchange."""
    parameters, rate = MODELS["large"][0], {}
    for n, (_, sequences) in MLPERF.items():
        compute = sequences / MLPERF[8][0]
        exchange = all_reduce(n, bytes_a_gradient * parameters, LINKS["8 × 400 Gb/s" if n > 8 else "NVLink H100"])
        buckets = max(1, round(bytes_a_gradient * parameters / BUCKET))
        rate[n] = sequences / (compute + exchange - min(exchange * (1 - 1 / buckets), BACKWARD * compute))
    return rate[64] / rate[8]


def table(rows):
    lines = ["| model, GPU | GPUs | sequences a GPU | between hosts | compute, ms | all-reduce, ms | not hidden, ms | steps/s | sequences/s | efficiency |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for model, gpu, n, sequences, link in rows:
        compute, exchange, exposed, seconds = step(model, gpu, n, link, sequences)
        lines.append(f"| {model}, {gpu} | {n} | {sequences} | {link if n > 8 else '–'} | {compute * 1e3:.0f} | {exchange * 1e3:.0f} | {exposed * 1e3:.0f} | "
                     f"{1 / seconds:.2f} | {n * sequences / seconds:,.0f} | {100 * compute / seconds:.0f} % |")
    return "\n".join(lines)


def measured(figures):
    """The formula on two CPU ranks, 2(n − 1)/n being 1: bandwidth and what is spent whatever the size, as two models show them, and what that
    gives for a third."""
    small, deep, base = (figures[name] for name in ("small", "deep", "base"))
    per_byte = (deep["exchange"] - small["exchange"]) / (4 * (deep["parameters"] - small["parameters"]))
    fixed = small["exchange"] - per_byte * 4 * small["parameters"]
    return 1 / per_byte / 1e9, fixed, fixed + per_byte * 4 * base["parameters"], base["exchange"]


def main():
    figures = json.loads(pathlib.Path(sys.argv[1]).read_text())
    fit, fixed, said, was = measured(figures)
    v100 = [(model, gpu, n, sequences, link) for model, n, gpu, sequences in
            (("base", 8, "V100, fp16", 64), ("base", 32, "V100, fp16", 64), ("large", 64, "V100, fp16", 16)) for link in
            (("–",) if n == 8 else ("10 Gb/s", "25 Gb/s", "100 Gb/s", "4 × 100 Gb/s"))]
    fp32 = [("base", "V100, fp32", 32, 32, "10 Gb/s"), ("base", "V100, fp32", 32, 32, "100 Gb/s"), ("base", "V100, fp32", 32, 64, "100 Gb/s"),
            ("base", "V100, fp32", 64, 64, "100 Gb/s"), ("large", "V100, fp32", 32, 24, "100 Gb/s"),
            ("large", "V100, fp32", 64, 16, "100 Gb/s"), ("large", "V100, fp32", 64, 24, "100 Gb/s"), ("large", "V100, fp32", 64, 24, "10 Gb/s")]
    tensor = [(model, "V100, fp16", n, sequences, link) for model, sequences in (("base", 64), ("large", 24)) for n in (32, 64)
              for link in ("25 Gb/s", "100 Gb/s")]
    h100 = [("large", "H100, bf16", n, sequences, "8 × 400 Gb/s") for n in (8, 32, 64) for sequences in (32, 256)]
    best, slow = (1 / step("base", "V100, fp16", 32, link, 64)[3] for link in ("100 Gb/s", "10 Gb/s"))
    report.write_section(ROOT / "docs/scaling.md", "scaling", f"""A model of one step of data parallel training expects {best:.1f} steps/s of BERT base on 32 V100s at 100 Gb/s, and {slow:.1f} at 10 Gb/s. A rate of 1.3 to 1.9 steps/s means a slow network or
fp32 without tensor cores. All figures but those of the last section are computed, not measured.

## V100
{table(v100)}

## Why 32 and 64 V100s may make 1.3 to 1.9 steps/s
With tensor cores and a link of 100 Gb/s a host, base on 32 GPUs would make nearly nine steps a second of 2,048 sequences. At 1.3 to 1.9 it does not; two causes give just that rate:

{table(fp32)}

- **A network of 10 Gb/s**: {1 / step('base', 'V100, fp16', 32, '10 Gb/s', 64)[3]:.1f} steps/s for base whatever the batch: all 440 MB of gradients pass each host's one link twice. A run on
  such hosts gains from a larger batch a step (accumulation: the exchange is once an update), not from faster GPUs.
- **fp32 without tensor cores**: 135 sequences of base a second and GPU, so 1.3 to 1.9 steps/s at 70 to 100 sequences a GPU; 39 of large, so the same at 20 to
  30: what fits into 16 GB. fp16, which `train.precision: auto` chooses there, would make it up to five times faster, until the network is the limit.

What four and eight such hosts may make with tensor cores, before gradients of two bytes or larger batches:

{table(tensor)}

Which one it was shows in `bertctl metrics`: the share EXC% (exchange) against FWD% and BWD%.

## H100
{table(h100)}

At 256 sequences a GPU everything but the last bucket is hidden: NVIDIA's batch of 65,536 is far from where the network matters. At 32 it is not, and not for the
links' rate: a ring of 64 has 126 hops a bucket. NCCL's trees have fewer; larger buckets would, too.

## 64 H100s beside MLPerf's
NVIDIA's MLPerf results of BERT large have {MLPERF[8][0]} sequences/s a GPU on one host and {MLPERF[64][0]} on eight: {100 * MLPERF[64][0] / MLPERF[8][0]:.0f} %. With their compute ({MLPERF[8][1]} and {MLPERF[64][1]} sequences a GPU and step) the formula
gives {100 * mlperf(4):.0f} % for gradients of 4 bytes, which this trainer exchanges, and {100 * mlperf(2):.0f} % for 2 bytes. It leaves out that packs differ between ranks, and that smaller batches compute less well.

## The model
- **Compute**: sequences a GPU · FLOPs a sequence (RECIPES' formula) / (peak · share), the share that published runs reach: 43 % of a V100's 125 TFLOP/s in fp16,
  60 % of its 15.7 in fp32, 50 % of an H100's 989 in bf16 (an aim, not a measurement).
- **All-reduce** of fp32 gradients (4 bytes a parameter) in buckets of {BUCKET / 2 ** 20:.0f} MiB around a ring of n: 2(n − 1)/n of the bytes at the ring's bandwidth, and
  2(n − 1) hops of {LATENCY * 1e6:.0f} µs a bucket. Inside a host the ring runs at NVLink's rate (130 GB/s on V100, 400 on H100); between hosts at the host's links together.
- **Overlap**: buckets go as backward (two thirds of compute) fills them; the last one is never hidden.

## What was measured
Two ranks of one thread on one host's CPU, where the exchange goes through memory and nothing is hidden (`exchange_sec` of metrics.jsonl, median of {figures['steps']} steps).
Models of {figures['small']['parameters'] / 1e6:.0f} and {figures['deep']['parameters'] / 1e6:.0f} million parameters took {figures['small']['exchange'] * 1e3:.0f} and {figures['deep']['exchange'] * 1e3:.0f} ms: {fit:.1f} GB/s and {fixed * 1e3:.0f} ms of any size (what fits a cache is faster). For base ({figures['base']['parameters'] / 1e6:.0f} million) the formula then
gives {said * 1e3:.0f} ms; it took {was * 1e3:.0f} ms ({100 * (was / said - 1):+.0f} %). No GPU, and no network between hosts, has been measured.

To repeat it: `scripts/check-scaling` {report.provenance()}.
""")


if __name__ == "__main__":
    main()
