"""Logits of `predict` beside transformers' for the classifiers that it has: BERT and ALBERT of random weights, and the real model."""
import json
import math
import subprocess
import sys

import torch
import transformers
from transformers import (AlbertConfig, AlbertForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, BertTokenizer)

import common

transformers.logging.set_verbosity_error()
SMALL = dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=200, max_position_embeddings=128, num_labels=5,
             id2label={i: f"class {i}" for i in range(5)}, label2id={f"class {i}": i for i in range(5)}, initializer_range=0.2)


def models():
    vocab = common.DATA / "vocab/bert-base-uncased.txt"
    for act in ("gelu", "gelu_new"):
        yield f"BERT, {act}", BertForSequenceClassification(BertConfig(vocab_size=30522, hidden_act=act, **SMALL)), BertTokenizer(str(vocab))
        for groups in (1, 3):
            config = AlbertConfig(vocab_size=30522, embedding_size=32, hidden_act=act, num_hidden_groups=groups, **SMALL)
            yield f"ALBERT, {act}, {groups} group{'s' if groups > 1 else ''}", AlbertForSequenceClassification(config), BertTokenizer(str(vocab))
    real = BertForSequenceClassification.from_pretrained(common.model_folder(), num_labels=4)
    yield "all-MiniLM-L6-v2", real, AutoTokenizer.from_pretrained(common.model_folder())


def main():
    common.make_data()
    torch.manual_seed(3)
    texts = [line.split("\t")[1] for line in (common.WORK / "trec-test.tsv").read_text().split("\n") if line][:200]
    path = common.WORK / "logits.txt"
    common.write_lines(path, texts)
    rows, worsts, failed = [], [], False
    for i, (title, model, tokenizer) in enumerate(models()):
        folder, checkpoint = common.WORK / f"logits-{i}", common.WORK / f"logits-{i}.ckpt"
        model.eval().save_pretrained(folder)
        vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        common.write_lines(folder / "vocab.txt", [token for token, _ in vocab])
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
        subprocess.run([common.TRAINER, "import", str(folder), "--output", str(checkpoint)], check=True, stderr=subprocess.DEVNULL)
        out = subprocess.run([common.TRAINER, "predict", str(checkpoint), str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
        ours = torch.tensor([[math.log(p) for p in json.loads(line)["probabilities"].values()] for line in out.split("\n") if line], dtype=torch.float64)
        with torch.no_grad():
            theirs = torch.cat([model(**tokenizer(text, truncation=True, max_length=128, return_tensors="pt")).logits for text in texts])
        back = common.WORK / f"logits-{i}-back"
        subprocess.run([common.TRAINER, "export", str(checkpoint), "--output", str(back)], check=True, stderr=subprocess.DEVNULL)
        again, info = type(model).from_pretrained(back, output_loading_info=True)
        clean = not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
        same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
        failed |= not (clean and same and again.config.id2label == model.config.id2label)
        # Probabilities leave a row's logits open by a constant: theirs are taken to logarithms of probabilities, too.
        worst = (ours - torch.log_softmax(theirs.double(), -1)).abs().max().item()
        failed |= worst > 1e-4
        worsts.append(worst)
        rows.append(f"| {title} | {len(texts)} | {theirs.abs().max():.2f} | {worst:.1e} | {'yes' if clean and same else 'NO'} |")
        print(rows[-1], flush=True)
    finding = (f"`predict`'s log-probabilities differ from those of transformers by at most {max(worsts):.1e} in {len(rows)} models (bound 1e-4); "
               f"{'every' if not failed else '**not every**'} model\nis exported as it was imported, bit for bit.")
    common.write_section("logits", "Logits", finding, "| model | texts | greatest logit | greatest difference | back |\n|---|---|---|---|---|\n" + "\n".join(rows),
                         f"""; transformers {transformers.__version__}. Logarithms of `predict`'s probabilities beside those of the model's own
logits, fp32. Back: `export` of the imported model loads in transformers with no key missing, unexpected or of another shape, every tensor bit for bit.""")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
