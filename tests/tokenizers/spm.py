"""SentencePiece: `tokenize` beside spm_encode after ALBERT's preprocessing, which is in Python here."""
import pathlib
import subprocess
import sys
import tempfile
import time
import unicodedata

import common


def preprocess(line):
    """As ALBERT's tokenization.py has it for uncased models; whitespace is left to the model."""
    line = line.replace("``", '"').replace("''", '"')
    line = unicodedata.normalize("NFKD", line)
    return "".join(c for c in line if not unicodedata.combining(c)).lower()


def spm_encode(model, lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    out = subprocess.run(["spm_encode", f"--model={model}", "--output_format=id"], input=text, stdout=subprocess.PIPE, check=True)
    return out.stdout.decode().split("\n")[:-1]


def train(folder):
    """A model of linux-doc with ALBERT's special tokens."""
    linux_doc = sorted(pathlib.Path("/usr/share/doc/linux-doc-6.1").rglob("*.rst.txt"))
    text = folder / "text"
    text.write_bytes(b"".join(path.read_bytes() for path in linux_doc))
    subprocess.run(["spm_train", f"--input={text}", f"--model_prefix={folder}/linux-doc", "--vocab_size=8000", "--input_sentence_size=100000",
                    "--shuffle_input_sentence=true", "--pad_id=0", "--unk_id=1", "--bos_id=-1", "--eos_id=-1",
                    "--control_symbols=[CLS],[SEP],[MASK]"], check=True, stderr=subprocess.DEVNULL)
    return folder / "linux-doc.model"


def differing(a, b):
    if len(a) != len(b):
        raise SystemExit(f"{len(a)} lines beside {len(b)}")
    return [i for i, (x, y) in enumerate(zip(a, b)) if x != y]


def main():
    texts = {"WikiText-2, valid and test": common.wikitext(), "AG News, train and test": common.ag_news(), "THUCNews, dev": common.thucnews(),
             "random strings of mixed scripts": [line.replace("\x00", "").replace("\r", "") for line in common.mixed_scripts(20000)]}
    rows, total, begin = [], 0, time.time()
    with tempfile.TemporaryDirectory() as name:
        for title, model in (("albert-german-30k", common.DATA / "vocab/albert-german-30k.model"), ("of linux-doc, 8,000", train(pathlib.Path(name)))):
            for text, lines in texts.items():
                ours = common.trainer_lines(["tokenize", "--vocab", str(model), "--ids"], "".join(f"{line}\n" for line in lines).encode())
                bad = differing(ours, spm_encode(model, [preprocess(line) for line in lines]))
                for i in bad[:5]:
                    print(f"differs: {title} {lines[i]!r}: {ours[i]}", file=sys.stderr)
                total += len(bad)
                rows.append(f"| {text} | {title} | {len(lines):,} | {sum(line.count(' ') + 1 for line in ours if line):,} | {len(bad)} |")
                print(rows[-1], flush=True)
    common.write_section("sentencepiece", "spm", "SentencePiece", f"{total} lines differ from Debian's spm_encode in any id.",
                         "| text | model | lines | tokens | lines that differ |\n|---|---|---|---|---|\n" + "\n".join(rows),
                         f"""; {time.time() - begin:.0f} s. Ids of `tokenize --ids` beside those of spm_encode
for the text after ALBERT's preprocessing (quotes, NFKD, combining characters removed, lower case), which Python does there.""")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
