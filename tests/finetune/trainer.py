"""bert-trainer finetune beside transformers' Trainer, same model, data and settings: step by step without dropout in the files' order;
with dropout over seeds; and how long each trained (dynamic padding on both sides)."""
import json
import math
import statistics
import subprocess
import sys
import time

import torch
import transformers
from transformers import AutoTokenizer, BertForSequenceClassification, DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

import common

SEEDS = 5
transformers.logging.set_verbosity_error()


class Ordered(Trainer):
    """Samples in the files' order."""
    def _get_train_sampler(self, *unused):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Losses(TrainerCallback):
    def __init__(self):
        self.losses = []

    def on_log(self, args, state, control, logs=None, **unused):
        if "loss" in logs:
            self.losses.append(logs["loss"])


def read(name, part, limit=None):
    """(text, label) of a set, as the spec's columns say."""
    import csv
    if name == "trec":
        rows = [line.split("\t") for line in (common.WORK / f"trec-{part}.tsv").read_text().split("\n") if line]
        pairs = [(text, label) for label, text in rows]
    else:
        with open(common.WORK / f"news-{part}.csv", encoding="utf-8", newline="") as file:
            pairs = [(f"{row[1]} {row[2]}", row[0]) for row in csv.reader(file)]
    return pairs[:limit]


def start_folder(name, dropout):
    """The real model with a classifier that both sides begin with."""
    folder = common.WORK / f"start-{name}-{dropout}"
    if not folder.exists():
        torch.manual_seed(7)
        labels = sorted({label for _, label in read(name, "train")})
        model = BertForSequenceClassification.from_pretrained(
            common.model_folder(), num_labels=len(labels), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)})
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(common.model_folder()).save_pretrained(folder)
        vocab = common.model_folder() / "vocab.txt"
        (folder / "vocab.txt").write_text((vocab if vocab.exists() else common.DATA / "vocab/bert-base-uncased.txt").read_text())
    return folder


def theirs(name, dropout, steps, rate, seed, ordered, limit=None):
    """Losses of the steps, seconds of training, and log-probabilities of the test set."""
    folder = start_folder(name, dropout)
    length = common.SETS[name]["sequence_length"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa")

    def dataset(part, limit=None):
        pairs = read(name, part, limit)
        encoded = tokenizer([text for text, _ in pairs], truncation=True, max_length=length)
        return [{"input_ids": encoded["input_ids"][i], "attention_mask": encoded["attention_mask"][i],
                 "labels": model.config.label2id[label]} for i, (_, label) in enumerate(pairs)]
    arguments = TrainingArguments(
        output_dir=str(common.WORK / "theirs"), per_device_train_batch_size=24, max_steps=steps, learning_rate=rate, warmup_steps=0.1,
        weight_decay=0.01, adam_epsilon=1e-6, max_grad_norm=1.0, logging_steps=1 if ordered else 10 ** 6, logging_nan_inf_filter=False,
        use_cpu=True, seed=seed, data_seed=seed, report_to=[], save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False)
    losses = Losses()
    trainer = (Ordered if ordered else Trainer)(model=model, args=arguments, train_dataset=dataset("train", limit),
                                                data_collator=DataCollatorWithPadding(tokenizer), callbacks=[losses])
    begin = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begin
    model.eval()
    test, logits = dataset("test"), []
    with torch.no_grad():
        for at in range(0, len(test), 50):
            batch = DataCollatorWithPadding(tokenizer)(test[at:at + 50])
            logits.append(model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits)
    logits = torch.cat(logits)
    right = sum(int(row.argmax()) == item["labels"] for row, item in zip(logits, test))
    return losses.losses, seconds, torch.log_softmax(logits.double(), -1), 100 * (1 - right / len(test))


def their_seed(name, steps, seed, limit):
    """Seconds and test error, kept as ours are."""
    path = common.WORK / f"theirs-{name}-{steps}-{seed}.json"
    if not path.exists():
        _, seconds, _, error = theirs(name, 0.1, steps, 1e-4, seed, False, limit)
        path.write_text(json.dumps([seconds, error]))
    return json.loads(path.read_text())


def limited(name, limit):
    """A set whose training texts are the first `limit`."""
    data = dict(common.SETS[name])
    if limit:
        kind = data["train"][0].rsplit(".", 1)[1]
        path = common.WORK / f"{name}-first-{limit}.{kind}"
        if not path.exists():
            import csv
            if kind == "tsv":
                common.write_lines(path, [f"{label}\t{text}" for text, label in read(name, "train", limit)])
            else:
                with open(common.WORK / f"{name}-train.csv", encoding="utf-8", newline="") as file:
                    rows = list(csv.reader(file))[:limit]
                with open(path, "w", encoding="utf-8", newline="") as file:
                    csv.writer(file).writerows(rows)
        data["train"] = [path.name]
    return data


def ours(run, name, dropout, steps, rate, seed, ordered, limit=None):
    data = {**limited(name, limit), "shuffle": not ordered}
    del data["validation"]
    rows = common.finetune(run, common.spec_of(
        data, rate, seed=seed, init=start_folder(name, dropout), optimizer={"step_count": "from_zero", "epsilon": 1e-6, "weight_decay": 0.01},
        train={"steps": steps}))
    losses = [row["loss"] for row in rows if "samples_per_sec" in row]
    seconds = sum(1 / row["steps_per_sec"] for row in rows if "steps_per_sec" in row)
    checkpoint = max((common.WORK / run / "checkpoints").glob("*.ckpt"))
    texts = common.WORK / data["test"][0]
    out = subprocess.run([common.TRAINER, "predict", str(checkpoint), str(texts)], stdout=subprocess.PIPE, check=True, text=True).stdout
    logs = torch.tensor([[math.log(max(p, 1e-300)) for _, p in sorted(json.loads(line)["probabilities"].items())] for line in out.split("\n") if line],
                        dtype=torch.float64)
    return losses, seconds, logs, common.test_error(rows)


def welch(a, b):
    """Two-sided p of Welch's t test, by the incomplete beta function's continued fraction."""
    va, vb = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    if va + vb == 0:
        return 1.0
    t = (statistics.mean(a) - statistics.mean(b)) / math.sqrt(va + vb)
    degrees = (va + vb) ** 2 / (va ** 2 / (len(a) - 1) + vb ** 2 / (len(b) - 1))
    n, total = 200000, 0.0  # Simpson over the tail's complement
    width = abs(t) / n
    density = lambda x: math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi) * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
    for i in range(n + 1):
        total += density(i * width) * (1 if i in (0, n) else 4 if i % 2 else 2)
    return 1 - 2 * total * width / 3


def main():
    common.make_data()
    torch.set_num_threads(common.THREADS)
    failed, steps_rows, seed_rows, losses, ps, ratios = False, [], [], [], [], []
    for name, steps in (("trec", 60), ("news", 40)):
        a = ours(f"parity-{name}", name, 0.0, steps, 1e-4, 1, True)
        b = theirs(name, 0.0, steps, 1e-4, 1, True)
        worst = max(abs(x - y) for x, y in zip(a[0], b[0]))
        logits = (a[2] - b[2]).abs().max().item()
        losses.append(worst)
        failed |= worst > 1.5e-4 or logits > 1e-3 or len(a[0]) != len(b[0])
        steps_rows.append(f"| {name} | {steps} | {a[0][0]:.4f} to {a[0][-1]:.4f} | {worst:.1e} | {logits:.1e} | {a[3]:.2f}, {b[3]:.2f} |")
        print(steps_rows[-1], flush=True)
    for name, steps, limit in (("trec", 300, None), ("news", 100, 1200)):
        errors, times = ([], []), ([], [])
        for seed in range(1, SEEDS + 1):
            a = ours(f"seed-{name}-{seed}", name, 0.1, steps, 1e-4, seed, False, limit)
            for side, (seconds, error) in enumerate(((a[1], a[3]), their_seed(name, steps, seed, limit))):
                errors[side].append(error)
                times[side].append(seconds)
        p = welch(*errors)
        ps.append(p)
        ratios.append(statistics.median(times[1]) / statistics.median(times[0]))
        failed |= p < 0.05
        show = lambda x: f"{statistics.mean(x):.2f} ± {statistics.stdev(x):.2f}"
        seed_rows.append(f"| {name} | {steps} | {show(errors[0])} | {show(errors[1])} | {p:.2f} | {statistics.median(times[0]):.1f} | "
                         f"{statistics.median(times[1]):.1f} | {ratios[-1]:.2f} |")
        print(seed_rows[-1], flush=True)
    finding = (f"Without dropout no step's loss differs from transformers' Trainer by more than {max(losses):.1e}. With dropout the mean test errors of {SEEDS} seeds "
               f"{'do not differ' if min(ps) >= 0.05 else '**differ**'}\n(Welch's test, p ≥ {min(ps):.2f}), and training is {min(ratios):.1f} to {max(ratios):.1f} times as fast.")
    common.write_section("trainer", "Beside transformers' Trainer", finding, f"""Without dropout, texts in the files' order: the training loss of every step, and the log-probabilities of the test set after the last.
Trainer's log rounds losses to four digits.

| data | steps | loss | greatest difference of a step's loss | of a log-probability | test error %: ours, Trainer's |
|---|---|---|---|---|---|
{chr(10).join(steps_rows)}

With dropout 0.1, {SEEDS} seeds each, other orders of texts: error % on the test set, mean ± standard deviation; Welch's test that
the means are the same; median seconds of training. Trainer pads a batch to its longest text; ours pads nothing.

| data | steps | ours | Trainer | p | ours, s | Trainer, s | Trainer / ours |
|---|---|---|---|---|---|---|---|
""" + "\n".join(seed_rows), f"""; transformers {transformers.__version__}, PyTorch {torch.__version__}. all-MiniLM-L6-v2 (six layers of 384), batches of 24,
AdamW at 1e-4 with a linear schedule. Both begin with the same classifier.""")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
