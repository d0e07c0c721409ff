"""THUCNews headlines with a small BERT over bert-base-chinese's vocabulary: from nothing, and after a small pretraining on Chinese text,
beside the majority class and naive Bayes on characters and on pairs of them."""
import collections
import gzip
import html
import json
import math
import pathlib
import random
import re
import sys

import common

CONFIG = {"vocab_size": 21128, "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 1024,
          "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
          "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12}
STEPS, EPOCHS, RATE = 2000, 5, 5e-4


def split():
    rows = [line.split("\t") for line in (common.DATA / "thucnews/dev.txt").read_text(encoding="utf-8").split("\n") if line]
    random.Random(1).shuffle(rows)
    parts = {"train": rows[:8000], "dev": rows[8000:9000], "test": rows[9000:]}
    for name, part in parts.items():
        common.write_lines(common.WORK / f"headlines-{name}.tsv", ["\t".join(row) for row in part])
    return parts


def pages():
    """Chinese text that Debian has, a page a string: LibreOffice's help and manual pages."""
    for path in sorted(pathlib.Path("/usr/share/libreoffice/help/zh-CN/text").rglob("*.html")):
        body = re.sub(r"<(script|style|head).*?</\1>", " ", path.read_text(encoding="utf-8", errors="replace"), flags=re.S)
        yield html.unescape(re.sub(r"<[^>]+>", " ", body))
    for path in sorted(pathlib.Path("/usr/share/man/zh_CN").rglob("*.gz")):
        lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").split("\n")
        yield " ".join(re.sub(r"\\f.|\\[&-]", "", line) for line in lines if line[:1] not in ".'")


def write_pages(path):
    """A page a row, in the headlines' columns; pages with few Chinese characters are left out. Gives how many Chinese characters they have."""
    chinese, rows = re.compile("[\u4e00-\u9fff]"), []
    for page in pages():
        text = re.sub(r"\s+", " ", page.replace('"', "")).strip()
        if len(chinese.findall(text)) >= 100:
            rows.append(f"{text[:8000]}\t-")
    common.write_lines(path, dict.fromkeys(rows))
    return sum(len(chinese.findall(row)) for row in rows)


def characters(text):
    return list(text)


def pairs(text):
    return list(text) + [a + b for a, b in zip(text, text[1:])]


def naive_bayes(train, test, features):
    """Error % of multinomial naive Bayes with add-one smoothing."""
    counts, totals, classes, known = collections.defaultdict(collections.Counter), collections.Counter(), collections.Counter(), set()
    for text, label in train:
        classes[label] += 1
        counts[label].update(features(text))
        known.update(features(text))
    for label in classes:
        totals[label] = sum(counts[label].values())

    def score(text, label):
        return math.log(classes[label]) + sum(math.log((counts[label][f] + 1) / (totals[label] + len(known))) for f in features(text) if f in known)
    wrong = sum(max(classes, key=lambda c: score(text, c)) != label for text, label in test)
    return 100 * wrong / len(test)


def main():
    parts = split()
    majority = collections.Counter(label for _, label in parts["train"]).most_common(1)[0][0]
    base = 100 * sum(label != majority for _, label in parts["test"]) / len(parts["test"])
    words, bayes = (naive_bayes(parts["train"], parts["test"], features) for features in (characters, pairs))
    size = write_pages(common.WORK / "pages-zh.tsv")
    (common.WORK / "chinese.json").write_text(json.dumps(CONFIG))
    data = {"train": ["headlines-train.tsv"], "validation": ["headlines-dev.tsv"], "test": ["headlines-test.tsv"], "text": [1], "label": 2,
            "header": "false", "sequence_length": 32}
    spec = {**common.spec_of(data, RATE, EPOCHS), "model": {"config": "chinese.json", "vocab": str(common.DATA / "vocab/bert-base-chinese.txt")}}
    scratch = common.test_error(common.finetune("chinese-scratch", spec))
    further = {"name": "further", "data": {"objective": "mlm", "train": ["pages-zh.tsv", "headlines-train.tsv"], "sequence_length": 64},
               "optimizer": {"learning_rate": 1e-3}, "train": {"global_batch": 32, "micro_batch": 32, "steps": STEPS, "evaluate_every": 500}}
    pretrained = common.test_error(common.finetune("chinese-pretrained", {**spec, "stages": [further, {"name": "target"}]}))
    finding = (f"A small BERT errs on {scratch:.1f} % of Chinese headlines from nothing and on {pretrained:.1f} % after pretraining on manuals; naive Bayes on characters and "
               f"their pairs on {bayes:.1f} %.")
    common.write_section("chinese", "Chinese", finding, f"""| | error % |
|---|---|
| the majority class | {base:.1f} |
| bag of words (a Chinese token is a character): naive Bayes | {words:.1f} |
| naive Bayes on characters and pairs of them | {bayes:.1f} |
| from nothing | {scratch:.1f} |
| after pretraining | {pretrained:.1f} |""", f""". 10,000 THUCNews headlines of ten classes, 8,000 to train on, 1,000 to choose the epoch by and 1,000 to test; a BERT of
three layers of 256 with bert-base-chinese's vocabulary; {EPOCHS} epochs at {RATE:g}. Pretraining: {STEPS:,} steps of MLM, 32 texts of 64 tokens each, on LibreOffice's Chinese help
and Chinese manual pages ({size / 1e6:.1f} million characters) and the training headlines.""")
    return 0 if max(scratch, pretrained) < base and min(scratch, pretrained) < words else 1


if __name__ == "__main__":
    sys.exit(main())
