"""What the parts of scripts/check-tokenizers share: the report and its sections, running bert-trainer, the texts."""
import csv
import os
import pathlib
import random
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import report
from report import provenance
provenance()  # of the start: the tree may change while this runs
DATA = pathlib.Path(os.environ["DATA"])
TRAINER = os.environ["BERT_TRAINER"]
REPORT = ROOT / "docs/tokenizers.md"


def trainer_lines(arguments, text):
    """The lines that bert-trainer prints for a text (bytes that end with a newline)."""
    out = subprocess.run([TRAINER, *arguments], input=text, stdout=subprocess.PIPE, check=True).stdout
    return out.decode().split("\n")[:-1]


def write_section(name, part, title, finding, table, how):
    """`part` is scripts/check-tokenizers' word for it; `how` follows the command."""
    report.write_section(REPORT, name, report.section(title, finding, table, f"`scripts/check-tokenizers {part}` {provenance()}{how}"))


def read_lines(path, encoding="utf-8"):
    return path.read_bytes().decode(encoding).rstrip("\n").split("\n")


def wikitext():
    return read_lines(DATA / "wikitext2/valid.txt") + read_lines(DATA / "wikitext2/test.txt")


def ag_news():
    rows = []
    for part in ("train", "test"):
        with open(DATA / f"ag_news/{part}.csv", encoding="utf-8", newline="") as file:
            rows += [" ".join(row[1:]).replace("\n", " ") for row in csv.reader(file)]
    return rows


def thucnews():
    return [line.split("\t")[0] for line in read_lines(DATA / "thucnews/dev.txt")]


def code_points():
    """a?b for every code point but the newline, which ends a line, and surrogates, which are no text."""
    return [f"a{chr(c)}b" for c in range(0x110000) if c != 10 and not 0xD800 <= c <= 0xDFFF]


BLOCKS = [(0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x61, 0x7A), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
          (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x20A0, 0x214F), (0x3000, 0x30FF),
          (0x4E00, 0x9FFF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF),
          (0x1F300, 0x1F64F), (0x20000, 0x2FA1F), (0x0, 0x9), (0xB, 0x1F), (0xE000, 0xE010), (0xFFF0, 0xFFFD), (0xE0000, 0xE007F)]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[mask]", "[MASK", "MASK]", "[ MASK ]", "##ing", "[[CLS]]"]


def mixed_scripts(n=100000, seed=1):
    """Lines of 1 to 60 characters that change script every few; one in ten has special tokens in it."""
    draw = random.Random(seed)
    lines = []
    for i in range(n):
        parts, length = [], draw.randint(1, 60)
        while length > 0:
            first, last = draw.choice(BLOCKS)
            run = draw.randint(1, 6)
            parts += [chr(draw.randint(first, last)) for _ in range(run)]
            length -= run
            if draw.random() < 0.2:
                parts.append(" ")
            if i % 10 == 0 and draw.random() < 0.3:
                parts.append(draw.choice(SPECIALS))
        lines.append("".join(parts))
    return lines


def long_words():
    """Words of 99, 100 and 101 characters: plain, of two and four bytes, with what is stripped, removed or decomposed in them."""
    parts = ["a", "e", "\u00e9", "e\u0301", "\u0436", "\u4e2d", "\uac00", "\U0001d41a", "\u0130", "\u1e69", "\u00ad", "a\u200d"]
    lines = []
    for part in parts:
        for n in (99, 100, 101):
            word = (part * n)[:n]
            lines += [word, f"x {word} y", f"{word}.", word[:-1] + "z", "z" * (n - len(part)) + part, "z" * n + part]
    return lines
