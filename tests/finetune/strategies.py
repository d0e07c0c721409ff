"""The strategy tables of Sun et al. at the scale of six layers of 384 and small data: one row a setting, error % on the test set."""
import json
import statistics
import sys

import common

TREC, NEWS, PAGES = (common.SETS[name] for name in ("trec", "news", "pages"))
PART = {**TREC, "fraction": 0.4}  # of the questions: what is compared shows before the model is as good as it gets


def error(name, spec):
    value = common.test_error(common.finetune(name, spec))
    print(f"{name}: {value:.2f}", flush=True)
    return value


def over_seeds(name, make, seeds=3):
    values = [error(f"{name}-{seed}", make(seed)) for seed in range(1, seeds + 1)]
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def truncation():
    rows = []
    for title, data, segments in (("head", {"truncation": "head"}, None), ("tail", {"truncation": "tail"}, None),
                                  ("head + tail", {"truncation": "head_tail"}, None), ("hierarchical, mean", {"truncation": "segments"}, "mean"),
                                  ("hierarchical, max", {"truncation": "segments"}, "max"),
                                  ("hierarchical, self-attention", {"truncation": "segments"}, "attention")):
        more = {"classifier": {"segments": segments}} if segments else {}
        rows.append((title, error(f"long-{title.replace(' ', '').replace(',', '-')}", common.spec_of({**PAGES, "sequence_length": 64, **data}, epochs=3, **more))))
    return rows


def layers():
    rows = [(f"layer {i}", error(f"layer-{i}", common.spec_of(PART, classifier={"layers": str(i)}))) for i in range(6)]
    for which in ("first4", "last4", "all"):
        for how in ("concat", "mean", "max"):
            rows.append((f"{which}, {how}", error(f"layers-{which}-{how}", common.spec_of(PART, classifier={"layers": which, "combine": how}))))
    return rows


def decay():
    return [(f"{rate:g}, ξ {xi:g}", error(f"decay-{rate:g}-{xi:g}", common.spec_of(PART, rate, optimizer={"layer_decay": xi})))
            for rate in (5e-5, 1e-4) for xi in (1.0, 0.95, 0.9, 0.85)]


def rates():
    return [(f"{rate:g}", error(f"rate-{rate:g}", common.spec_of(PART, rate))) for rate in (2e-5, 5e-5, 1e-4, 4e-4, 1e-3, 2e-3)]


def few(seed):
    return {**TREC, "per_class": 20}


def staged(seed, stages, rate=1e-4):
    spec = common.spec_of("trec", rate, 6, seed)
    spec["stages"] = stages
    return spec


FURTHER = {"optimizer": {"learning_rate": 5e-5}, "train": {"steps": 150}}


def steps():
    """Few labelled questions (20 a class), where what comes before them counts most; three seeds."""
    target = {"name": "target", "data": {"per_class": 20, "task": "trec"}, "train": {"epochs": 40, "evaluate_every": 25}}
    mlm = lambda data: {"name": "further", **FURTHER, "data": {**data, "objective": "mlm"}}
    strip = lambda data: {key: value for key, value in data.items() if key not in ("test", "validation", "sequence_length")}
    tasks = {"name": "together", "train": {"epochs": 1}, "tasks": [{**strip(data), "validation": data["validation"], "test": data["test"],
                                                                    "task": name, "per_class": 20} for name, data in (("trec", TREC), ("news", NEWS))]}
    rows = [("features only", over_seeds("steps-features", lambda s: {**common.spec_of({**TREC, "per_class": 20}, 1e-3, 40, s), "optimizer": {
        "learning_rate": 1e-3, "freeze": "features"}, "train": {"global_batch": 24, "micro_batch": 24, "epochs": 40, "seed": s, "evaluate_every": 25}})),
            ("fine-tuning", over_seeds("steps-plain", lambda s: staged(s, [target]))),
            ("within-task further pretraining, fine-tuning", over_seeds("steps-within", lambda s: staged(s, [mlm(strip(TREC)), target]))),
            ("cross-domain further pretraining, fine-tuning", over_seeds("steps-cross", lambda s: staged(s, [mlm({**strip(NEWS), "validation": NEWS["validation"]}), target]))),
            ("multi-task, fine-tuning", over_seeds("steps-multi", lambda s: staged(s, [tasks, target]))),
            ("cross-domain, multi-task, fine-tuning", over_seeds("steps-both", lambda s: staged(s, [mlm({**strip(NEWS), "validation": NEWS["validation"]}), tasks, target]))),
            ("within-task, multi-task, fine-tuning", over_seeds("steps-all", lambda s: staged(s, [mlm(strip(TREC)), tasks, target])))]
    return rows


def low_shot():
    return [(f"{n} a class", over_seeds(f"few-{n}", lambda s, n=n: common.spec_of({**TREC, "per_class": n}, epochs=800 // n, seed=s, train={"evaluate_every": 25})))
            for n in (5, 20, 100)]


TABLES = (("Rates: 40 % of TREC, three epochs", "rate", rates),
          ("Three steps: TREC with 20 questions a class, 200 updates of it, mean ± deviation of three seeds", "steps", steps),
          ("Which layers: 40 % of TREC, three epochs", "features", layers),
          ("Layer-wise rates: 40 % of TREC, three epochs", "rate, ξ", decay),
          ("Low-shot: TREC, 200 updates, mean ± deviation of three seeds", "questions", low_shot),
          ("Long text: linux-doc pages by directory, 64 tokens a text or segment, three epochs", "setting", truncation))


def error_of(row):
    value = row[1]
    return value if isinstance(value, str) else f"{value:.2f}"


def main():
    common.make_data()
    text, found = [], {}
    for title, column, make in TABLES:
        rows = make()
        found[column] = {row[0]: error_of(row).split(" ")[0] for row in rows}
        text.append(f"### {title}\n| {column} | error % |\n|---|---|\n" + "\n".join(f"| {row[0]} | {error_of(row)} |" for row in rows))
    steps, layers, long = found["steps"], found["features"], found["setting"]
    finding = (f"With 20 questions a class, fine-tuning all layers errs on {steps['fine-tuning']} %, the features alone on {steps['features only']} %, and with within-task further pretraining first on "
               f"{steps['within-task further pretraining, fine-tuning']} %.\nFeatures of the lowest layer err on {layers['layer 0']} %, of the highest on {layers['layer 5']} %. Of long pages, hierarchical pooling errs on "
               f"{min(float(v) for k, v in long.items() if k.startswith('hierarchical')):.2f} %, the head alone on {long['head']} %.")
    common.write_section("strategies", "Strategies", finding, "\n\n".join(text), """. all-MiniLM-L6-v2, batches of 24, AdamW; error % on the test set of the checkpoint that was best on
validation. One seed where no deviation stands: differences of a point on 500 questions are within chance.""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
