#!/usr/bin/env python3
"""Folders of models as others write them, imported and held against transformers: tests/parity/folders.py [--list] [--only REGEX] [VERSION...]

Each variant (folder_weights.py, folder_texts.py) writes a Hugging Face folder. It is imported; `predict`'s probabilities and `tokenize`'s ids
must be transformers' (1e-5), and so must the logits of the folder that `export` writes, opened by transformers again. A folder that
cannot be taken is refused by name. Once for each VERSION of transformers, in an environment of its own ($PARITY_VENV, $PARITY_VENV_4; default
~/.cache/bertd-parity and bertd-parity-4): `new` and `4`, both by default. Needs $BERT_TRAINER. Prints a table and, without --only,
writes it to docs/parity.md.
"""
import argparse
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import folder_texts  # noqa: F401
import folder_weights  # noqa: F401
from folder_kit import MASKED, NAMES, PAIRS, TEXTS, VARIANTS

BOUND = 1e-5
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
ENVIRONMENTS = {"new": ("requirements.txt", "PARITY_VENV", "bertd-parity"), "4": ("requirements-4.txt", "PARITY_VENV_4", "bertd-parity-4")}


# ---- one variant, in the environment ----

class Failure(Exception):
    pass


def trainer(*arguments, text=""):
    return subprocess.run([os.environ["BERT_TRAINER"], *map(str, arguments)], input=text, capture_output=True, text=True, timeout=300)


def done(*arguments, text=""):
    result = trainer(*arguments, text=text)
    if result.returncode:
        raise Failure(f"{arguments[0]}: exit {result.returncode}: {result.stderr.strip()}")
    return result


def check_refused(result, expected, what):
    code, pattern = expected
    lines = [line for line in result.stderr.splitlines() if line.startswith("bert-trainer: ")]
    if result.returncode != code or not lines or not re.search(pattern, lines[-1]):
        raise Failure(f"{what}: exit {result.returncode}, expected {code} and /{pattern}/: {result.stderr.strip()}")


def open_reference(variant, folder):
    import transformers
    if variant.reference:
        return variant.reference(folder)
    kind = {"classifier": "AutoModelForSequenceClassification", "number": "AutoModelForSequenceClassification", "mlm": "AutoModelForMaskedLM", "none": "AutoModel"}[variant.head]
    model = getattr(transformers, kind).from_pretrained(folder, dtype="float32")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def token_ids(tokenizer, texts, truncates):
    return [tokenizer(text, truncation=truncates)["input_ids"] for text in texts]


def logits(model, rows):
    import torch
    with torch.no_grad():
        out = [model(input_ids=torch.tensor([row])) for row in rows]
    return [(o.logits if "logits" in o else o.prediction_logits if "prediction_logits" in o else o.last_hidden_state)[0].double() for o in out]


def our_ids(checkpoint, exported, texts):
    """Ids without [CLS] and [SEP]; by the checkpoint where the program can, else by the exported vocabulary."""
    if "--checkpoint" in trainer("tokenize", "--help").stdout:
        out = done("tokenize", "--checkpoint", checkpoint, "--ids", text="".join(t + "\n" for t in texts))
    else:
        config = json.loads((exported / "tokenizer_config.json").read_text())
        flags = [f"--{'' if config.get(key, True) else 'no-'}{flag}" for key, flag in
                 (("do_lower_case", "lowercase"), ("strip_accents", "strip-accents"), ("tokenize_chinese_chars", "chinese"))]
        vocab = exported / ("vocab.txt" if (exported / "vocab.txt").exists() else "spiece.model")
        out = done("tokenize", "--vocab", vocab, "--ids", *flags, text="".join(t + "\n" for t in texts))
    return [[int(i) for i in line.split()] for line in out.stdout.splitlines()]


def worst_probability(model, rows, checkpoint, texts):
    import torch
    lines = done("predict", checkpoint, text="".join(t + "\n" for t in texts)).stdout.splitlines()
    if len(lines) != len(texts):
        raise Failure(f"predict: {len(lines)} answers to {len(texts)} texts")
    worst = 0
    for row, line in zip(logits(model, rows), lines):
        ours, theirs = json.loads(line)["probabilities"], torch.softmax(row, -1).tolist()
        names = [model.config.id2label[i] for i in range(len(theirs))]
        if list(ours) != names:
            raise Failure(f"predict: classes {list(ours)}, expected {names}")
        worst = max(worst, *(abs(a - b) for a, b in zip(ours.values(), theirs)))
    return worst


def worst_number(model, rows, checkpoint, texts, header):
    """Of predict's numbers, and of evaluate's mean squared error, which is the loss of the folder's model."""
    import torch
    lines = done("predict", checkpoint, text="".join(t + "\n" for t in texts)).stdout.splitlines()
    worst = max(abs(json.loads(line)["label"] - row.item()) for row, line in zip(logits(model, rows), lines, strict=True))
    data = checkpoint.with_suffix(".numbers.tsv")
    data.write_text(header + "".join(f"{i / 2}\t{text}\n" for i, text in enumerate(texts)))
    said = json.loads(done("evaluate", "--json", "--format", "tsv", checkpoint, data).stdout)
    with torch.no_grad():
        losses = [model(input_ids=torch.tensor([row]), labels=torch.tensor([i / 2])).loss.item() for i, row in enumerate(rows)]
    return max(worst, abs(said["mse"] - sum(losses) / len(losses)))


def worst_mask(model, rows, tokenizer, checkpoint, texts):
    """Of the five likeliest tokens, whose probabilities have three digits; a tie may stand in another order."""
    import torch
    worst = 0
    for row, values, text in zip(rows, logits(model, rows), texts):
        likely = torch.softmax(values[row.index(tokenizer.mask_token_id)], -1)
        line = done("fill-mask", "--top", "5", checkpoint, text).stdout.splitlines()[-1].split(":", 1)[1].split()
        for token, probability in zip(line[::2], line[1::2]):
            worst = max(worst, abs(float(probability) - likely[tokenizer.convert_tokens_to_ids(token)].item()) - 5e-4)
    return max(worst, 0)


def check_export(variant, reference, rows, texts, exported):
    """Worst logit of the exported folder, opened by transformers."""
    import transformers
    again, info = type(reference).from_pretrained(exported, output_loading_info=True, dtype="float32")
    bad = {key: info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
    if variant.head in ("classifier", "number") and bad:
        raise Failure(f"export: transformers finds {bad}")
    tokens = token_ids(transformers.AutoTokenizer.from_pretrained(exported), texts, variant.truncates)
    if tokens != rows:
        at = next(i for i, (a, b) in enumerate(zip(tokens, rows)) if a != b)
        raise Failure(f"export: {texts[at]!r} is {tokens[at]}, expected {rows[at]}")
    return max((a - b).abs().max().item() for a, b in zip(logits(reference, rows), logits(again.eval(), rows)))


def tune(folder, classes, keys, pair):
    """The checkpoint of a step that changes nothing; no classes: of numbers."""
    data, spec, run = (pathlib.Path(f"{folder}.{name}") for name in ("tsv", "yaml", "run"))
    text = "a good film\tan awful one" if pair else "a good film"
    data.write_text("".join(f"{name}\t{text}\n" for name in classes or "12"))
    names = f"[{', '.join(classes)}]" if classes else "number"
    spec.write_text(f"""kind: finetune
checkpoint: {{every_sec: 0}}
model: {{init: {folder}}}
data: {{train: [{data}], text: {[2, 3] if pair else [2]}, label: 1, header: false, labels: {names}, {keys}}}
optimizer: {{learning_rate: 0}}
train: {{global_batch: {len(classes) or 2}, steps: 1}}
""")
    done("finetune", spec, "--run-dir", run)
    return run / "checkpoints/step-000000001.ckpt"


def check(variant, folder):
    """{name: worst deviation} of what was compared."""
    checkpoint, exported = pathlib.Path(f"{folder}.ckpt"), pathlib.Path(f"{folder}.out")
    variant.write(folder)
    result = trainer("import", folder, "--output", checkpoint)
    if variant.refuses:
        check_refused(result, variant.refuses, "import")
        if checkpoint.exists():
            raise Failure("import: refused, but wrote a checkpoint")
        return {}
    if result.returncode:
        raise Failure(f"import: exit {result.returncode}: {result.stderr.strip()}")
    if variant.says and not re.search(variant.says, result.stderr):
        raise Failure(f"import: expected /{variant.says}/, said: {result.stderr.strip()}")
    found = {}
    model, tokenizer = open_reference(variant, folder)
    if variant.tunes:
        classes = {"classifier": model.config.id2label.values(), "number": []}.get(variant.head, NAMES)
        checkpoint = tune(folder, classes, variant.tunes[0], variant.pair)
        for key, value in variant.tunes[1].items():
            setattr(tokenizer, key, value)
    if variant.embeds:
        found["embeddings"] = worst_embedding(model, tokenizer, checkpoint, PAIRS if variant.pair else [(text,) for text in TEXTS])
    if variant.pair:
        return found | check_pairs(variant, model, tokenizer, checkpoint, exported)
    texts = variant.texts or (MASKED if variant.head == "mlm" else TEXTS)
    rows = token_ids(tokenizer, texts, variant.truncates)
    if isinstance(variant.export, tuple):
        check_refused(trainer("export", checkpoint, "--output", exported), variant.export, "export")
    elif variant.export:
        done("export", checkpoint, "--output", exported)
    whole = token_ids(tokenizer, texts, False)
    ours = our_ids(checkpoint, exported, texts)
    for text, a, b in zip(texts, ours, whole):
        if a != b[1:-1]:
            raise Failure(f"tokens of {text!r}: {a}, expected {b[1:-1]}")
    if variant.head == "classifier":
        found["probabilities"] = worst_probability(model, rows, checkpoint, texts)
    elif variant.head == "number":
        found["numbers"] = worst_number(model, rows, checkpoint, texts, "" if variant.tunes else "label\ttext\n")
    elif variant.head == "mlm":
        found["probabilities"] = worst_mask(model, rows, tokenizer, checkpoint, texts)
    if variant.export is True:
        found["export"] = check_export(variant, model, rows, texts, exported)
    return found


def pair_logits(model, rows):
    import torch
    with torch.no_grad():
        return [model(input_ids=torch.tensor([row["input_ids"]]), token_type_ids=torch.tensor([row["token_type_ids"]])).logits[0].double() for row in rows]


def worst_embedding(model, tokenizer, checkpoint, texts):
    """Of every layer from either end, of [CLS] and the mean; as JSON lines and as an array."""
    import numpy
    import torch
    encoder, worst = getattr(model, model.base_model_prefix, model), 0
    with torch.no_grad():
        states = [encoder(**tokenizer(*text, truncation=True, return_tensors="pt"), output_hidden_states=True).hidden_states for text in texts]
    lines = "".join("\t".join(text) + "\n" for text in texts)
    columns = ["--text", "1", "--text", "2"] if len(texts[0]) == 2 else []
    array = checkpoint.with_suffix(".npy")
    for layer in range(len(states[0])):
        for pooling in "cls", "mean":
            theirs = torch.stack([s[layer][0, 0] if pooling == "cls" else s[layer][0].mean(0) for s in states]).numpy()
            said = done("embed", "--pooling", pooling, "--layer", str(layer), *columns, checkpoint, text=lines).stdout.splitlines()
            ours = numpy.array([json.loads(line)["embedding"] for line in said], dtype=numpy.float32)
            done("embed", "--pooling", pooling, "--layer", str(layer - len(states[0])), *columns, "--output", array, checkpoint, text=lines)
            loaded = numpy.load(array)
            if loaded.dtype != numpy.float32 or loaded.shape != theirs.shape or (loaded != ours).any():
                raise Failure(f"embed: layer {layer}, {pooling}: the array is not that of the lines")
            worst = max(worst, float(numpy.abs(ours - theirs).max()))
    return worst


def check_pairs(variant, model, tokenizer, checkpoint, exported):
    """Ids and segments of PAIRS are theirs, and so are the answers of predict and of the exported folder."""
    import torch
    rows = [tokenizer(a, b, truncation=True) for a, b in PAIRS]
    text = "".join(f"{a}\t{b}\n" for a, b in PAIRS)
    for line, row, pair in zip(done("tokenize", "--checkpoint", checkpoint, "--pair", "--ids", text=text).stdout.splitlines(), rows, PAIRS, strict=True):
        ours = json.loads(line)
        if any(ours[key] != row[key] for key in ours) or any(mask != 1 for mask in row["attention_mask"]):
            raise Failure(f"{pair}: {ours}, expected {row}")
    columns = [] if variant.tunes else ["--text", "1", "--text", "2"]
    lines = [json.loads(line) for line in done("predict", *columns, checkpoint, text=text).stdout.splitlines()]
    theirs = pair_logits(model, rows)
    if variant.head == "number":
        worst = max(abs(line["label"] - row.item()) for line, row in zip(lines, theirs, strict=True))
    else:
        worst = max(abs(a - b) for line, row in zip(lines, theirs, strict=True)
                    for a, b in zip(line["probabilities"].values(), torch.softmax(row, -1).tolist(), strict=True))
    done("export", checkpoint, "--output", exported)
    again = type(model).from_pretrained(exported, dtype="float32").eval()
    return {"answers": worst, "export": max((a - b).abs().max().item() for a, b in zip(theirs, pair_logits(again, rows)))}


def run_variant(variant, work):
    folder = work / variant.name
    folder.mkdir()
    try:
        found = check(variant, folder)
        over = [f"{key} {value:.1e}" for key, value in found.items() if not value <= BOUND or math.isnan(value)]
        return {"name": variant.name, "found": found, "problem": ", ".join(over)}
    except Failure as failure:
        return {"name": variant.name, "found": {}, "problem": str(failure)}
    except Exception:
        return {"name": variant.name, "found": {}, "problem": traceback.format_exc()[-1500:]}


def worker(work, only):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    major = int(transformers.__version__.split(".")[0])
    print(json.dumps({"version": transformers.__version__}), flush=True)
    for variant in VARIANTS.values():
        if re.search(only, variant.name) and variant.versions[0] <= major <= variant.versions[1]:
            print(json.dumps(run_variant(variant, work)), flush=True)


# ---- all ----

def run_environment(name, only, keep):
    """(version, {variant: its row})"""
    requirements, variable, cache = ENVIRONMENTS[name]
    python = subprocess.run([HERE.parent / "venv", HERE / requirements, os.environ.get(variable, CACHE / cache)], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.strip()
    work = pathlib.Path(tempfile.mkdtemp(prefix="bertd-folders."))
    with subprocess.Popen([python, __file__, "--worker", work, "--only", only], stdout=subprocess.PIPE, text=True) as process:
        lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
    if keep:
        print(f"folders of {name}: {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    if process.returncode or not lines:
        raise SystemExit(f"folders: the environment {name} ended with {process.returncode}")
    return lines[0]["version"], {row["name"]: row for row in lines[1:]}


def cell(row):
    if row is None:
        return "–"
    if row["problem"]:
        return "**NO**"
    variant = VARIANTS[row["name"]]
    refused = variant.refuses or isinstance(variant.export, tuple)
    return " / ".join(f"{value:.0e}" for value in row["found"].values()) or ("refused" if refused else "ids")


def table(results):
    versions = [version for version, _ in results]
    lines = ["| folder | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    for name in VARIANTS:
        if any(name in rows for _, rows in results):
            lines.append(f"| {name} | " + " | ".join(cell(rows.get(name)) for _, rows in results) + " |")
    return "\n".join(lines)


def section(report, where, results):
    rows = [row for _, found in results for row in found.values()]
    bad = sum(bool(row["problem"]) for row in rows)
    refused = sum(cell(row) == "refused" for row in rows)
    finding = (f"Of {len(rows)} folders as others write them, {len(rows) - refused - bad} are read as transformers reads them and {refused} are refused by name; {bad} are wrong.")
    return report.section("Folders of others", finding, table(results), f"""`tests/parity/folders.py` {where}. Each variant's folder is written, imported and compared with the named version of transformers: worst
deviation of `predict`'s probabilities (of `fill-mask`'s beyond its three digits) / of the logits that transformers computes from the folder
that `export` writes, bound {BOUND:.0e}; ids of all texts equal, before and after. "ids": these alone, as there is no
trained head; "refused": by name, with the right exit code.""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1], usage=__doc__.split("\n")[0].split(": ")[1])
    parser.add_argument("--list", action="store_true", help="print the variants' names")
    parser.add_argument("--only", default="", metavar="REGEX", help="the variants whose names match; nothing is written")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    parser.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("versions", nargs="*", help="new, 4 (default: both)")
    options = parser.parse_args()
    if options.list:
        print("\n".join(VARIANTS))
        return 0
    if options.worker:
        worker(options.worker, options.only)
        return 0
    if unknown := set(options.versions) - set(ENVIRONMENTS):
        parser.error(f"{unknown.pop()}: expected new or 4")
    if "BERT_TRAINER" not in os.environ:
        parser.error("BERT_TRAINER is the path of bert-trainer")
    writes = not options.only and not options.versions
    if writes:
        sys.path.insert(0, str(HERE.parent))
        import report
        where = report.provenance()
    results = [run_environment(name, options.only, options.keep) for name in options.versions or ENVIRONMENTS]
    print(table(results))
    bad = [(version, row) for version, rows in results for row in rows.values() if row["problem"]]
    for version, row in bad:
        print(f"{version}: {row['name']}: {row['problem']}", file=sys.stderr)
    if not any(rows for _, rows in results):
        parser.error(f"--only {options.only}: no such variant")
    if writes:
        report.write_section(HERE.parents[1] / "docs/parity.md", "folders", section(report, where, results))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
