"""Tokens a second beside Hugging Face's tokenizers on the same cores: theirs in memory alone, ours from file to file."""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import tokenizers

import common

ROUNDS = 5
CHUNK = 20000
TARGET = 5
# With lines (a file, one text a line) and a vocabulary: seconds and tokens of encode_batch and encode_batch_fast, the text in memory.
THEIRS = """
import json, sys, time
from tokenizers import BertWordPieceTokenizer
tokenizer = BertWordPieceTokenizer(sys.argv[1])._tokenizer
lines = open(sys.argv[2], encoding="utf-8").read().split("\\n")[:-1]
chunks = [lines[at:at + int(sys.argv[3])] for at in range(0, len(lines), int(sys.argv[3]))]
result = []
for encode in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
    begin = time.perf_counter()
    tokens = sum(len(encoding) for chunk in chunks for encoding in encode(chunk, add_special_tokens=False))
    result.append((time.perf_counter() - begin, tokens))
print(json.dumps(result))
"""


def run(cores, arguments):
    """Runs a program on so many cores, with as many threads; gives its output, its messages and how long it took."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "RAYON_NUM_THREADS": str(cores), "TOKENIZERS_PARALLELISM": "true"}
    begin = time.perf_counter()
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True, env=environment,
                          preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]))
    return done.stdout, done.stderr, time.perf_counter() - begin


def measure(cores, vocab, text, folder):
    """Tokens/s by name, each the median of alternated rounds."""
    rates = {name: [] for name in ("encode_batch", "encode_batch_fast", "tokenize", "prepare")}
    output = str(folder / "corpus")
    for _ in range(ROUNDS):
        timed = json.loads(run(cores, [sys.executable, "-c", THEIRS, vocab, text, str(CHUNK)])[0])
        tokens = timed[0][1]
        for name, (seconds, n) in zip(("encode_batch", "encode_batch_fast"), timed):
            rates[name].append(n / seconds)
        _, _, seconds = run(cores, ["sh", "-c", '"$0" tokenize --vocab "$1" --ids "$2" >/dev/null', common.TRAINER, vocab, text])
        rates["tokenize"].append(tokens / seconds)
        _, said, seconds = run(cores, [common.TRAINER, "prepare", "--vocab", vocab, "--output", output, text])
        rates["prepare"].append(int(re.search(r"(\d+) tokens in", said).group(1)) / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def texts(folder):
    """Name, vocabulary and file of each text; the small ones several times over."""
    linux_doc = sorted(pathlib.Path("/usr/share/doc/linux-doc-6.1").rglob("*.rst.txt"))
    lines = [line for path in linux_doc for line in path.read_bytes().decode(errors="replace").split("\n")]
    for name, vocabulary, lines in (("linux-doc-6.1", "uncased", lines), ("WikiText-2, valid and test, 10 times", "uncased", common.wikitext() * 10),
                                    ("AG News, train and test, 10 times", "uncased", common.ag_news() * 10),
                                    ("THUCNews, dev, 20 times", "chinese", common.thucnews() * 20)):
        path = folder / "text"
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
        yield name, str(common.DATA / f"vocab/bert-base-{vocabulary}.txt"), str(path)


def main():
    rows, worst, begin = [], float("inf"), time.time()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for text, vocab, path in texts(folder):
            for cores in sorted({1, len(os.sched_getaffinity(0))}):
                rates = measure(cores, vocab, path, folder)
                theirs = max(rates["encode_batch"], rates["encode_batch_fast"])
                ratios = [rates[name] / theirs for name in ("tokenize", "prepare")]
                worst = min(worst, *ratios)
                rows.append(f"| {text} | {os.path.getsize(path) / 1e6:.1f} | {cores} | " + " | ".join(f"{rate / 1e6:.2f}" for rate in rates.values()) +
                            " | " + " | ".join(f"{ratio:.1f}×" for ratio in ratios) + " |")
                print(rows[-1], flush=True)
    common.write_section("speed", "speed", "Speed", f"Ours makes more tokens a second than the faster of Hugging Face's calls on the same cores: the least is {worst:.1f}× (target {TARGET}×).",
                         """Millions of tokens a second; the last two columns: ours over the faster of theirs.

| text | MB | cores | encode_batch | encode_batch_fast | tokenize | prepare | tokenize | prepare |
|---|---|---|---|---|---|---|---|---|
""" + "\n".join(rows), f""", against tokenizers {tokenizers.__version__}; {time.time() - begin:.0f} s.
Medians of {ROUNDS} alternated rounds, each program on the cores and with the threads that its row states. Theirs: the text is in
memory as a list of lines, the ids stay in the library's memory, batches of {CHUNK:,} lines. Ours: the whole command, start, reading the vocabulary
and the text and writing ids (`tokenize --ids`, to /dev/null) or a synced corpus (`prepare`) included.""")
    return 1 if worst < TARGET else 0


if __name__ == "__main__":
    sys.exit(main())
