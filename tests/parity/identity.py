#!/usr/bin/env python3
"""Whether an older bert-trainer and today's train the same weights: every objective, sharing, optimizer and precision that a CPU has, ways to
mask, classifiers, stages, tasks, one and two ranks, each run by both programs, and by today's from the older one's checkpoint of the middle. Then
both use the older one's checkpoints. Prints a table by `bert-trainer diff`; fails where anything differs. A minute on 2 cores.

    scripts/check-identity --old BINARY [PATTERN]    an older bert-trainer
    scripts/check-identity --base COMMIT [PATTERN]   builds that of the commit, in build-identity/COMMIT
    --new BINARY        today's, if not that of build-identity/, which is built
    PATTERN             only the runs whose name has it (a regular expression)
"""
import argparse
import concurrent.futures
import contextlib
import copy
import functools
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("BERTD_", "NOTIFY_"))} | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl_base_warn_component_unused": "0",
    "OMPI_MCA_mpi_yield_when_idle": "1"}
SECONDS = 120  # of one command

MODEL = {"vocab_size": 256, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
         "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
         "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12}
SHARING = ("none", "ffn", "attention", "all")
MODELS = {"bert": MODEL, "bert-tanh": MODEL | {"hidden_act": "gelu_new"}} | {
    share: MODEL | {"model_type": "albert", "embedding_size": 8, "cross_layer_sharing": share} for share in SHARING} | {
    "groups": MODEL | {"model_type": "albert", "embedding_size": 8, "num_hidden_groups": 3, "inner_group_num": 2}}
OBJECTIVES = ("mlm", "mlm+nsp", "mlm+sop")
OPTIMIZERS = ("adamw", "bertadam", "lamb", "lamb_google")

# A run: its name, the spec's keys over those of its kind, how many ranks, the steps of the checkpoint in its middle.
PRETRAIN = {
    "kind": "pretrain", "checkpoint": {"every_steps": 3, "every_sec": 0, "keep": 100}, "model": {"config": "bert.json", "vocab": "vocab.txt"},
    "data": {"train": ["corpus"], "validation": ["corpus-validation"], "sequence_length": 32},
    "optimizer": {"learning_rate": 2.0e-3, "warmup_steps": 2},
    "train": {"global_batch": 7, "micro_batch": 2, "steps": 6, "evaluate_every": 3, "evaluate_samples": 5}}
FINETUNE = {
    "kind": "finetune", "checkpoint": {"every_steps": 5, "every_sec": 0, "keep": 100}, "model": {"config": "bert.json", "vocab": "vocab.txt"},
    "data": {"train": ["train.tsv"], "validation": ["dev.tsv"], "test": ["dev.tsv"], "text": [2], "label": 1, "sequence_length": 32},
    "optimizer": {"learning_rate": 5.0e-3, "warmup_ratio": 0.1}, "train": {"global_batch": 9, "micro_batch": 4, "steps": 10, "evaluate_every": 5}}


def spec_of(base, keys):
    """The spec with "a.b" keys set in it."""
    spec = copy.deepcopy(base)
    for path, value in keys.items():
        *folders, last = path.split(".")
        functools.reduce(lambda at, key: at.setdefault(key, {}), folders, spec)[last] = value
    return spec


class Run:
    def __init__(self, name, base, keys, ranks=1, middle=None):
        self.name, self.spec, self.ranks = name, spec_of(base, keys), ranks
        self.middle = middle or base["checkpoint"]["every_steps"]


def pretraining():
    turns = [itertools.cycle(values) for values in (
        ("token", "whole_word", "ngram"), ("dynamic", "static"), ("linear", "poly", "cosine", "constant"), ("start", "warmup"),
        ("full", "from_one", "from_zero"), ("global", "tensor"), (False, False, True))]
    for objective, model, optimizer, precision in itertools.product(OBJECTIVES, ("bert", *SHARING), OPTIMIZERS, ("fp32", "fp64")):
        unit, masking, schedule, decay, count, clip, recompute = map(next, turns)
        yield Run(f"{objective} {model} {optimizer} {precision}", PRETRAIN, {
            "model.config": f"{model}.json", "data.objective": objective, "data.mask_unit": unit, "data.masking": masking, "data.dupe_factor": 2,
            "optimizer.name": optimizer, "optimizer.schedule": schedule, "optimizer.decay_from": decay, "optimizer.step_count": count,
            "optimizer.clip_by": clip, "train.precision": precision, "train.recompute_activations": recompute})
    for objective, model in itertools.product(OBJECTIVES, ("bert", *SHARING)):
        yield Run(f"{objective} {model}, 2 ranks", PRETRAIN, {"model.config": f"{model}.json", "data.objective": objective, "optimizer.name": "lamb"}, ranks=2)
    for unit, masking in itertools.product(("token", "whole_word", "ngram"), ("dynamic", "static")):
        yield Run(f"masking {unit} {masking}", PRETRAIN, {"data.mask_unit": unit, "data.masking": masking, "data.dupe_factor": 1, "train.steps": 30}, middle=15)
    stages = [{"data": {"sequence_length": 16}, "train": {"steps": 4}}, {"moments": "reset", "data": {"objective": "mlm+sop"}, "train": {"steps": 4}},
              {"bias_correction": "restart", "optimizer": {"name": "adamw"}, "train": {"steps": 4}}]
    for name, keys in {
            "gelu_new": {"model.config": "bert-tanh.json"}, "groups": {"model.config": "groups.json"},
            "weights": {"data.train": ["corpus", "corpus-validation"], "data.train_weights": [0.7, 0.3]},
            "two corpora": {"data.train": ["corpus", "corpus-validation"]},
            "short": {"data.short_sequence_probability": 0.5, "data.masked_fraction": 0.3, "data.max_predictions": 4},
            "from weights": {"model.init": "start.ckpt"}, "weights of another task": {"model.init": "start.ckpt", "data.objective": "mlm"},
            "seed": {"train.seed": 7}, "no clipping": {"optimizer.clip_norm": 0, "optimizer.weight_decay": 0}}.items():
        yield Run(f"pretrain {name}", PRETRAIN, keys)
    for unit in ("token", "ngram"):
        yield Run(f"sentencepiece {unit}", PRETRAIN, {"model": {"config": "all.json", "vocab": "pieces.model"}, "data.train": ["pieces"],
                                                      "data.validation": [], "train.evaluate_every": 0, "data.mask_unit": unit,
                                                      "data.objective": "mlm+sop"})
    yield Run("pretrain stages", PRETRAIN, {"stages": stages}, middle=6)
    yield Run("pretrain stages, 2 ranks", PRETRAIN, {"stages": stages}, ranks=2, middle=6)


def finetuning():
    heads = [{"layers": layers, "combine": combine} for layers in ("first4", "last4", "all") for combine in ("concat", "mean", "max")]
    heads += [{"layers": layers} for layers in ("last", 0, 2)] + [{"input": way} for way in ("pooled", "cls")] + [{"dropout": 0.3}]
    for head in heads:
        yield Run(f"classifier {' '.join(map(str, head.values()))}", FINETUNE, {"classifier": head})
    for way in ("mean", "max", "attention"):
        yield Run(f"classifier segments {way}", FINETUNE, {"classifier.segments": way, "data.truncation": "segments", "data.sequence_length": 8})
    for way in ("head", "tail", "head_tail"):
        yield Run(f"classifier truncation {way}", FINETUNE, {"data.truncation": way, "data.sequence_length": 8})
    for freeze, decay in itertools.product(("none", "embeddings", "encoder", "features"), (1, 0.8)):
        yield Run(f"classifier freeze {freeze} {decay}", FINETUNE, {"optimizer.freeze": freeze, "optimizer.layer_decay": decay})
    for model, optimizer, precision in itertools.product(("bert", *SHARING), OPTIMIZERS, ("fp32", "fp64")):
        yield Run(f"classifier {model} {optimizer} {precision}", FINETUNE, {"model.config": f"{model}.json", "optimizer.name": optimizer, "train.precision": precision})
    tasks = [{"task": "parts"}, {"task": "moods", "train": ["moods.jsonl"], "validation": ["moods.jsonl"], "text": ["said"], "label": "mood"}]
    stages = {"data": {"train": ["train.tsv"], "validation": ["dev.tsv"], "text": [2], "label": 1, "sequence_length": 32},
              "stages": [{"data": {"objective": "mlm+nsp"}, "train": {"steps": 4}}, {"tasks": tasks, "train": {"steps": 4}}, {"data": {"task": "parts"}, "train": {"steps": 4}}]}
    for name, keys in {
            "csv": {"data": {"train": ["train.csv"], "validation": ["dev.csv"], "text": ["body"], "sequence_length": 32}},
            "jsonl": {"data": {"train": ["moods.jsonl"], "validation": ["moods.jsonl"], "text": ["said"], "label": "mood", "sequence_length": 32}},
            "split": {"data.validation": [], "data.split": 0.2}, "fraction": {"data.fraction": 0.5}, "per class": {"data.per_class": 9},
            "in order": {"data.shuffle": False}, "labels": {"data.labels": ["net", "disk", "core"]}, "cased": {"data.lowercase": False},
            "epochs": {"train": {"global_batch": 18, "micro_batch": 4, "epochs": 2}}, "of weights": {"model": {"init": "start.ckpt"}},
            "of a folder": {"model": {"init": "hf"}}}.items():
        yield Run(f"classifier {name}", FINETUNE, keys)
    yield Run("stages and tasks", FINETUNE, stages, middle=5)
    yield Run("stages and tasks, 2 ranks", FINETUNE, stages, ranks=2, middle=5)
    yield Run("classifier, 2 ranks", FINETUNE, {}, ranks=2)


def write_inputs(trainer):
    """Text with structure to learn, texts of three classes and two, and what the older program makes of them."""
    draw = random.Random(7)
    nouns = "kernel memory page driver device network socket packet file inode block lock thread signal timer clock".split()
    verbs = "reads writes frees maps locks sends wakes drops checks holds".split()
    clause = lambda topic: f"the {draw.choice('old new fast slow large small'.split())} {nouns[topic + draw.randrange(5)]} {draw.choice(verbs)}"
    sentence = lambda topic: " ".join(clause(topic) for _ in range(draw.randint(1, 4))) + " the page ."
    documents = ["".join(sentence(draw.randrange(12)) + "\n" for _ in range(draw.randint(4, 15))) for _ in range(60)]
    pathlib.Path("text").write_text("\n".join(documents))
    rows = [(name, f"the {word} of {clause(3 * k)} {draw.choice(nouns)}. It {draw.choice(verbs)} the {word}!") for _ in range(30)
            for k, (name, word) in enumerate((("core", "kernel"), ("net", "socket"), ("disk", "inode")))]
    for name, part in (("train", rows[:72]), ("dev", rows[72:])):
        pathlib.Path(f"{name}.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in part))
        pathlib.Path(f"{name}.csv").write_text("title,label,body\n" + "".join(f'"the, {label}",{label},{text}\n' for label, text in part))
    pathlib.Path("dev.txt").write_text("".join(f"{text}\n" for _, text in rows[72:]))
    pathlib.Path("moods.jsonl").write_text("".join(json.dumps({"said": sentence(k % 5), "mood": k % 2}) + "\n" for k in range(40)))
    for name, model in MODELS.items():
        pathlib.Path(f"{name}.json").write_text(json.dumps(model))
    trainer("vocab", "--size", "200", "--output", "vocab.txt", "text")
    trainer("prepare", "--vocab", "vocab.txt", "--output", "corpus", "--validation", "0.1", "text")
    call("spm_train", "--input=text", "--model_prefix=pieces", "--vocab_size=120", "--hard_vocab_limit=false", "--pad_id=0", "--unk_id=1",
         "--bos_id=-1", "--eos_id=-1", "--control_symbols=[CLS],[SEP],[MASK]")
    trainer("prepare", "--vocab", "pieces.model", "--output", "pieces", "text")
    pathlib.Path("start.json").write_text(json.dumps(spec_of(PRETRAIN, {"train.steps": 3})))
    trainer("pretrain", "start.json", "--run-dir", "start")
    shutil.copy(newest("start"), "start.ckpt")
    trainer("export", "start.ckpt", "--output", "hf")


def call(*command):
    """What the command prints; RuntimeError with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=SECONDS,
                          env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("bert-trainer: ")] or done.stderr.strip().splitlines() or [""]
        raise RuntimeError(f"exit {done.returncode}: {lines[-1]}")
    return done.stdout


def newest(folder):
    return max(pathlib.Path(folder, "checkpoints").glob("step-*.ckpt"))


def train(binary, run, folder, *more):
    launcher = [] if run.ranks == 1 else ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(run.ranks)]
    call(*launcher, binary, run.spec["kind"], f"{folder.parent}/spec.json", "--run-dir", folder, *more)


def difference(new, old, today):
    """"identical", or what `bert-trainer diff` says of the last checkpoints of two run folders."""
    a, b = newest(old), newest(today)
    if a.name != b.name:
        return f"{a.name} and {b.name}"
    done = subprocess.run([new, "diff", a, b], capture_output=True, text=True)
    return "identical" if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines()[-1].replace(f"{a}", "old").replace(f"{b}", "new")


def interrupted(folder, copy_of_it, middle):
    """The run folder as it was when the checkpoint of step `middle` was its newest."""
    shutil.copytree(folder, copy_of_it, symlinks=True)
    checkpoints = {int(path.stem[5:]): path for path in (copy_of_it / "checkpoints").iterdir()}
    for step, path in checkpoints.items():
        path.unlink() if step > middle else None
    best = copy_of_it / "best.ckpt"
    best.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(checkpoints[middle])) as database:
        for step, in database.execute("SELECT value FROM meta WHERE key = 'best_validation_step'"):
            best.symlink_to(f"checkpoints/step-{int(step):09}.ckpt")


def attempt(action, *arguments):
    try:
        return action(*arguments)
    except (RuntimeError, OSError, subprocess.SubprocessError) as problem:
        return str(problem)


def compare(run, binaries, folder):
    """A row of the table: name, whole, resumed; `left out` where the older program does not do it."""
    folder.mkdir()
    # A spec's paths are those of its folder: the inputs are linked there.
    for name in os.listdir("."):
        (folder / name).symlink_to(pathlib.Path(name).resolve()) if name != "runs" else None
    (folder / "spec.json").write_text(json.dumps(run.spec))
    refused = attempt(train, binaries["old"], run, folder / "old")
    if refused:
        return run.name, f"left out: {refused}", ""
    whole = attempt(train, binaries["new"], run, folder / "new") or difference(binaries["new"], folder / "old", folder / "new")
    interrupted(folder / "old", folder / "resumed", run.middle)
    resumed = attempt(train, binaries["new"], run, folder / "resumed") or difference(binaries["new"], folder / "old", folder / "resumed")
    shutil.rmtree(folder / "new")
    return run.name, whole, resumed


def answers(text):
    """Label and probabilities of each line of predict."""
    return [(line["label"], line["probabilities"]) for line in map(json.loads, text.splitlines())]


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def uses(binary, name):
    """What a program makes of the older one's inputs and checkpoints, thing by thing: a function each."""
    trainer = functools.partial(call, binary)

    def made(output, *command):
        trainer(*command, "--output", f"{name}-{output}")
        return f"{name}-{output}"

    def exported(checkpoint, output):
        return digest(f"{made(output, 'export', checkpoint)}/model.safetensors")

    def tensors(checkpoint):
        return {tensor["name"]: tensor for tensor in json.loads(trainer("inspect", "--json", checkpoint))["tensors"]}

    classifier = "classifier.ckpt"
    return {
        "vocab": lambda: digest(made("vocab.txt", "vocab", "--size", "200", "text")),
        "prepare": lambda: [digest(made("corpus", "prepare", "--vocab", "vocab.txt", "text") + end) for end in (".bin", ".idx")],
        "tokenize": lambda: trainer("tokenize", "--vocab", "vocab.txt", "--ids", "text"),
        "params": lambda: [trainer("params", "--sequence-length", "64", f"{model}.json") for model in MODELS],
        "import": lambda: tensors(made("import.ckpt", "import", "hf")),
        "inspect": lambda: tensors("start.ckpt"),
        "export": lambda: exported("start.ckpt", "hf"),
        "export of a classifier": lambda: exported(classifier, "classifier"),
        "fill-mask": lambda: re.sub(r" [0-9.]+", "", trainer("fill-mask", "start.ckpt", "the kernel [MASK] the page .")),  # the tokens in order
        "predict": lambda: answers(trainer("predict", classifier, "dev.txt")),
        "evaluate": lambda: json.loads(trainer("evaluate", "--json", classifier, "dev.tsv"))["confusion"],
    }


def arguments():
    parser = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    for option in ("--old", "--base", "--new"):
        parser.add_argument(option)
    parser.add_argument("pattern", nargs="?", default="")
    if not sys.argv[1:] or {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__.rstrip())
        raise SystemExit(0 if sys.argv[1:] else 2)
    given = parser.parse_args()
    if bool(given.old) == bool(given.base):
        parser.error("expected --old BINARY or --base COMMIT")
    return given


def build(folder):
    environment = os.environ | {"BUILD_TARGETS": "trainer/bert-trainer"}
    subprocess.run(["scripts/build", "build-identity", "-Dcuda=disabled"], cwd=folder, env=environment, check=True)
    return folder / "build-identity/trainer/bert-trainer"


def build_commit(name):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "--verify", f"{name}^{{commit}}"], stdout=subprocess.PIPE, text=True).stdout.strip()
    if not commit:
        raise SystemExit(f"check-identity: --base {name}: not a commit of this repository")
    folder = ROOT / f"build-identity/{commit}"
    if not folder.exists():
        archive = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, stdout=subprocess.PIPE).stdout
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return build(folder)


def main():
    given = arguments()
    new = pathlib.Path(given.new).resolve() if given.new else build(ROOT)
    binaries = {"old": pathlib.Path(given.old).resolve() if given.old else build_commit(given.base), "new": new}
    runs = [run for run in (*pretraining(), *finetuning()) if re.search(given.pattern, run.name)]
    with tempfile.TemporaryDirectory(prefix="bertd-identity.") as work:
        os.chdir(work)
        os.mkdir("runs")
        write_inputs(functools.partial(call, binaries["old"]))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            rows = list(pool.map(lambda at: compare(at[1], binaries, pathlib.Path(work, "runs", str(at[0]))), enumerate(runs)))
        if "classifier last" in (names := [run.name for run in runs]):
            shutil.copy(newest(f"runs/{names.index('classifier last')}/old"), "classifier.ckpt")
            old, today = uses(binaries["old"], "old"), uses(binaries["new"], "new")
            rows += [(thing, "identical" if (theirs := attempt(old[thing])) == (ours := attempt(today[thing])) else
                      f"{ours if isinstance(ours, str) and ours.startswith('exit') else 'another answer'}", "") for thing in old]
        os.chdir(ROOT)
    print("| run | whole | resumed from the older program's checkpoint |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    left_out = sum(row[1].startswith("left out") for row in rows)
    differing = sum(bool({*row[1:]} - {"identical", ""}) for row in rows) - left_out
    print(f"{len(rows) - left_out - differing} identical, {differing} different, {left_out} left out")
    raise SystemExit(differing > 0 or left_out == len(rows))


main()
