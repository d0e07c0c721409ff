"""SentencePiece: `tokenize` beside transformers' AlbertTokenizer (its own code over the sentencepiece library); every difference is
explained by one of five reasons or is a failure."""
import re
import sys

import sentencepiece
import transformers
from transformers import AlbertTokenizer

import common

MODEL = common.DATA / "vocab/albert-german-30k.model"
SPACES = re.compile("[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")  # to Python's split, not to the model
REASONS = ("a special token in the text", "a character that is a space to Python's split", "lower case, a character at a time, before NFKD", "a number and its comma",
           "two splits of equal score")


def ours(lines):
    out = common.trainer_lines(["tokenize", "--vocab", str(MODEL), "--ids"], "".join(f"{line}\n" for line in lines).encode())
    return [[int(i) for i in line.split()] for line in out]


def reason(tokenizer, line, a, b):
    """Why ids `a` of ours and `b` of theirs may differ, or None."""
    if any(token in line for token in tokenizer.all_special_tokens):
        return REASONS[0]
    for change, why in ((lambda text: SPACES.sub(" ", text), REASONS[1]), (lambda text: "".join(map(str.lower, text)), REASONS[2])):
        line = change(line)
        if (a := ours([line])[0]) == b:
            return why
    processor = tokenizer.sp_model
    pieces = [[processor.IdToPiece(i) for i in ids] for ids in (a, b)]
    if "".join(pieces[0]) != "".join(pieces[1]):
        return None
    if any(re.search(r"\d,$", piece) for piece in pieces[0]):
        return REASONS[3]
    scores = [sum(processor.GetScore(i) for i in ids) for ids in (a, b)]
    return REASONS[4] if abs(scores[0] - scores[1]) < 1e-3 else None


def main():
    tokenizer = AlbertTokenizer(str(MODEL))
    texts = {"WikiText-2, valid and test": common.wikitext(), "AG News, train and test": common.ag_news(), "THUCNews, dev": common.thucnews(),
             "random strings of mixed scripts": [line.replace("\x00", "").replace("\r", "") for line in common.mixed_scripts(20000)]}
    rows, failed = [], 0
    for text, lines in texts.items():
        counts = dict.fromkeys(REASONS, 0)
        for line, a, b in zip(lines, ours(lines), tokenizer(lines, add_special_tokens=False)["input_ids"]):
            why = reason(tokenizer, line, a, b) if a != b else ""
            if why:
                counts[why] += 1
            elif why is None:
                failed += 1
                print(f"differs: {line!r}: {a} beside {b}", file=sys.stderr)
        rows.append(f"| {text} | {len(lines):,} | " + " | ".join(f"{n:,}" for n in counts.values()) + " |")
        print(rows[-1], flush=True)
    common.write_section("albert", "albert", "AlbertTokenizer", f"{failed} lines differ from transformers' AlbertTokenizer for an unknown reason; the table has the others by reason.", f"""| text | lines | {" | ".join(REASONS)} |
|---|---|---|---|---|---|---|
""" + "\n".join(rows) + """

- To AlbertTokenizer `[CLS]`, `[SEP]`, `[MASK]`, `<pad>` and `<unk>` in a text are the tokens; to spm_encode, and so to us, they are text.
- AlbertTokenizer joins what Python's `split` takes apart, which also knows U+001C to U+001F, U+0085 and U+2028 as spaces; the model's own
  normalization does not.
- AlbertTokenizer puts a text into lower case a character at a time before NFKD, and again as a whole after it: a capital sigma at a
  word's end never becomes a final one.
- AlbertTokenizer splits the comma from a piece that ends with a digit and a comma (`2007,`), as ALBERT's first code did for XLNet's sake.
- Where two splits have the same score, versions of the sentencepiece library choose differently (`i ii` and `ii i`).""", f""", against the AlbertTokenizer of transformers {transformers.__version__} over sentencepiece
{sentencepiece.__version__}, model albert-german-30k.""")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
