"""THUCNews headlines with a small BERT over bert-base-chinese's vocabulary: from nothing, and after MLM on the headlines themselves, beside
the majority class and naive Bayes on characters and pairs of them."""
import collections
import json
import math
import random
import sys

import common

CONFIG = {"vocab_size": 21128, "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 1024,
          "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
          "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12}


def split():
    rows = [line.split("\t") for line in (common.DATA / "thucnews/dev.txt").read_text(encoding="utf-8").split("\n") if line]
    random.Random(1).shuffle(rows)
    parts = {"train": rows[:8000], "dev": rows[8000:9000], "test": rows[9000:]}
    for name, part in parts.items():
        common.write_lines(common.WORK / f"headlines-{name}.tsv", ["\t".join(row) for row in part])
    return parts


def features(text):
    return list(text) + [a + b for a, b in zip(text, text[1:])]


def naive_bayes(train, test):
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
    bayes = naive_bayes(parts["train"], parts["test"])
    (common.WORK / "chinese.json").write_text(json.dumps(CONFIG))
    data = {"train": ["headlines-train.tsv"], "validation": ["headlines-dev.tsv"], "test": ["headlines-test.tsv"], "text": [1], "label": 2,
            "header": "false", "sequence_length": 32}
    spec = {**common.spec_of(data, 5e-4, 5), "model": {"config": "chinese.json", "vocab": str(common.DATA / "vocab/bert-base-chinese.txt")}}
    scratch = common.test_error(common.finetune("chinese-scratch", spec))
    pretrained = common.test_error(common.finetune("chinese-pretrained", {**spec, "stages": [
        {"name": "further", "data": {"objective": "mlm"}, "train": {"steps": 1000}}, {"name": "target"}]}))
    common.write_section("chinese", f"""## Chinese
`scripts/check-finetune chinese` {common.provenance()}. 10,000 THUCNews headlines of ten classes, 8,000 to train on and 1,000 to test; a BERT of three layers of 256
with bert-base-chinese's vocabulary; five epochs at 5e-4.

| | error % |
|---|---|
| the majority class | {base:.1f} |
| naive Bayes on characters and pairs of them | {bayes:.1f} |
| from nothing | {scratch:.1f} |
| after 1,000 steps of MLM on the training headlines | {pretrained:.1f} |
""")
    return 0 if max(scratch, pretrained) < base and min(scratch, pretrained) < bayes else 1


if __name__ == "__main__":
    sys.exit(main())
