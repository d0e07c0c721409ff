"""`vocab` beside BertWordPieceTrainer: tokens a word on held-out text; and the memory of `vocab` and `prepare` on more than 1 GB."""
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import tokenizers
from tokenizers import BertWordPieceTokenizer

import common

SIZE = 30000
BIG_BYTES = 1050000000


def documents():
    texts = [path.read_bytes().decode(errors="replace") for path in sorted(pathlib.Path("/usr/share/doc/linux-doc-6.1").rglob("*.rst.txt"))]
    for lines in (common.wikitext(), common.ag_news()):
        texts += ["\n".join(lines[at:at + 50]) for at in range(0, len(lines), 50)]
    random.Random(1).shuffle(texts)
    return texts


def write_big(path, texts):
    """The texts again and again, each with names and random words that come once."""
    draw, size, n = random.Random(2), 0, 0
    with open(path, "w", encoding="utf-8") as file:
        while size < BIG_BYTES:
            n += 1
            size += file.write(f"{draw.choice(texts)}\nname{n:08d}x" + "".join(f" {draw.getrandbits(48):012x}" for _ in range(20)) + "\n\n\n")


def measured(arguments):
    """Peak resident MB and seconds."""
    begin = time.time()
    process = subprocess.Popen([common.TRAINER, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments[0]}: status {status}")
    return usage.ru_maxrss * 1024 / 1e6, time.time() - begin


def fertility(vocab, lines, words):
    encodings = BertWordPieceTokenizer(str(vocab), lowercase=True).encode_batch(lines, add_special_tokens=False)
    return sum(map(len, encodings)) / words


def compare(folder, texts):
    held_out, learnt = "\n".join(texts[:len(texts) // 20]).split("\n"), folder / "learnt"
    learnt.write_text("\n".join(texts[len(texts) // 20:]) + "\n")
    theirs = BertWordPieceTokenizer(lowercase=True)
    theirs.train([str(learnt)], vocab_size=SIZE, show_progress=False)
    theirs.save_model(str(folder), "theirs")
    measured(["vocab", "--size", str(SIZE), "--output", str(folder / "ours.txt"), str(learnt)])
    core = theirs._tokenizer
    words = sum(len(core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(line))) for line in held_out)
    return fertility(folder / "ours.txt", held_out, words), fertility(folder / "theirs-vocab.txt", held_out, words), words


def main():
    with tempfile.TemporaryDirectory() as name:
        folder, texts, rows, peaks = pathlib.Path(name), documents(), [], []
        write_big(folder / "big", texts)
        size = os.path.getsize(folder / "big") / 1e6
        vocab = str(common.DATA / "vocab/bert-base-uncased.txt")
        runs = [("vocab, 30,000 pieces", ["vocab", "--size", str(SIZE), "--output", str(folder / "v"), str(folder / "big")])]
        runs += [(f"prepare, {f}", ["prepare", "--vocab", vocab, "--output", str(folder / "c"), "--format", f, str(folder / "big")]) for f in ("lines", "prose")]
        for title, arguments in runs:
            peak, seconds = measured(arguments)
            peaks.append(peak)
            rows.append(f"| {title} | {peak:.0f} | {seconds:.0f} | {size / seconds:.1f} |")
            print(rows[-1], flush=True)
        ours, theirs, words = compare(folder, texts)
    finding = (f"A vocabulary of {SIZE:,} pieces learnt by `vocab` gives {ours:.6f} tokens a word on held-out text, BertWordPieceTrainer's {theirs:.6f} ({100 * (ours / theirs - 1):+.3f} %; the bound is 1 %).\n"
               f"`vocab` and `prepare` take a text of {size:,.0f} MB in at most {max(peaks):.0f} MB of memory.")
    common.write_section("vocab", "vocab", "Vocabularies and memory", finding, "| command | peak MB | s | MB/s |\n|---|---|---|---|\n" + "\n".join(rows),
                         f""", against tokenizers {tokenizers.__version__}. Learnt from linux-doc, WikiText-2 and
AG News without every twentieth document, tried on the {words:,} words held out. The table's text: the same again and again, with names and random words in between that come once.""")
    return 1 if abs(ours / theirs - 1) > 0.01 else 0


if __name__ == "__main__":
    sys.exit(main())
