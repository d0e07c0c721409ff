"""WordPiece against Hugging Face's tokenizers: every text, vocabulary and switch; ids of a line must be the same."""
import sys
import time

import tokenizers
from tokenizers import BertWordPieceTokenizer

import common

CHUNK = 20000
VOCABULARIES = ("bert-base-uncased", "bert-base-chinese")
SWITCHES = [(lower, strip, chinese) for lower, strip in ((True, None), (False, None), (True, False), (False, True)) for chinese in (True, False)]
SHOWN = 5


def our_ids(vocab, switches, lines):
    lower, strip, chinese = switches
    options = ["--lowercase" if lower else "--no-lowercase", "--chinese" if chinese else "--no-chinese"]
    if strip is not None:
        options.append("--strip-accents" if strip else "--no-strip-accents")
    return common.trainer_lines(["tokenize", "--vocab", str(vocab), "--ids", *options], "".join(f"{line}\n" for line in lines).encode())


def their_ids(vocab, switches, lines):
    lower, strip, chinese = switches
    tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=lower, strip_accents=strip, handle_chinese_chars=chinese)
    for at in range(0, len(lines), CHUNK):
        for encoding in tokenizer.encode_batch(lines[at:at + CHUNK], add_special_tokens=False):
            yield " ".join(map(str, encoding.ids))


def differing(vocab, switches, lines):
    ours, n = our_ids(vocab, switches, lines), 0
    if len(ours) != len(lines):
        raise SystemExit(f"{len(lines)} lines in, {len(ours)} out")
    for line, a, b in zip(lines, ours, their_ids(vocab, switches, lines)):
        if a == b:
            continue
        n += 1
        if n <= SHOWN:
            print(f"differs: {vocab.name} {switches} {line!r}: {a} | {b}", file=sys.stderr)
    return n, sum(line.count(" ") + 1 for line in ours if line)


def main():
    texts = {
        "WikiText-2, valid and test": common.wikitext(),
        "AG News, train and test": common.ag_news(),
        "THUCNews, dev": common.thucnews(),
        "`a?b` for every code point": common.code_points(),
        "random strings of mixed scripts and special tokens": common.mixed_scripts(),
        "words of 99, 100 and 101 characters": common.long_words(),
    }
    rows, total, begin = [], 0, time.time()
    for name, lines in texts.items():
        for vocabulary in VOCABULARIES:
            counts = [differing(common.DATA / f"vocab/{vocabulary}.txt", switches, lines) for switches in SWITCHES]
            bad, tokens = sum(n for n, _ in counts), sum(tokens for _, tokens in counts)
            total += bad
            rows.append(f"| {name} | {vocabulary} | {len(lines):,} | {tokens:,} | {bad} |")
            print(rows[-1], flush=True)
    common.write_section("wordpiece", "wordpiece", "WordPiece", f"{total} lines differ from Hugging Face's tokenizers in any id, of all texts, both vocabularies and eight settings.",
                         "| text | vocabulary | lines | tokens, eight settings | lines that differ |\n|---|---|---|---|---|\n" + "\n".join(rows),
                         f""", against tokenizers {tokenizers.__version__} (BertWordPieceTokenizer, its
special tokens in the text being themselves); {time.time() - begin:.0f} s. Each text goes through eight settings: lower case on and off, accents
stripped and not, Chinese spacing on and off.""")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
