"""`prepare` of more than 1 GB killed with -9 at moments spread over its time: never a mixture of corpora, no more than the next run
needs to be as one undisturbed, and memory that does not grow with the text."""
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import common
import vocab

KILLS = 12
PARTS = [f"{part}.{end}" for part in ("c", "c-validation") for end in ("bin", "idx", "json")]


def digest(folder):
    """Of each file of the corpus, None where it is not there."""
    def of(path):
        if not path.exists():
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return {name: of(folder / name) for name in PARTS}


def is_mixture(found, old, new):
    """Whether the training or the validation corpus can be opened (its .idx is there) but is neither the old one nor the new."""
    for part in ("c.", "c-validation."):
        names = [name for name in PARTS if name.startswith(part)]
        whole = any(all(found[name] == corpus[name] for name in names) for corpus in (old, new))
        if not whole and found[part + "idx"]:
            return True
    return False


def main():
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = vocab.documents()
        vocab.write_big(folder / "big", texts)
        (folder / "small").write_text("\n\n\n".join(texts[:50]))
        out = folder / "out"
        out.mkdir()

        def arguments(text):
            return ["prepare", "--vocab", str(common.DATA / "vocab/bert-base-uncased.txt"), "--format", "prose", "--validation", "0.05", "--output",
                    str(out / "c"), str(folder / text)]
        vocab.measured(arguments("small"))
        old = digest(out)
        peak, seconds = vocab.measured(arguments("big"))
        new = digest(out)
        for kill in range(1, KILLS + 1):
            vocab.measured(arguments("small"))
            process = subprocess.Popen([common.TRAINER, *arguments("big")], stderr=subprocess.DEVNULL)
            time.sleep(seconds * kill / (KILLS + 0.2))
            process.send_signal(signal.SIGKILL)
            done = process.wait() == 0
            found = digest(out)
            mixture = is_mixture(found, old, new)
            _, again = vocab.measured(arguments("big"))
            same, left = digest(out) == new, sorted(set(os.listdir(out)) - set(PARTS))
            failed += mixture or not same or bool(left)
            state = "new" if found == new else "old" if found == old else "gone" if not found["c.idx"] else "training new, validation old"
            rows.append(f"| {seconds * kill / (KILLS + 0.2):.1f}{' (it was done)' if done else ''} | {'a mixture' if mixture else state} | "
                        f"{'as undisturbed' if same else 'differs'}, {again:.0f} s | {', '.join(left) or 'nothing'} |")
            print(rows[-1], flush=True)
        size = os.path.getsize(folder / "big") / 1e6
    finding = (f"After each of {len(rows)} kills of `prepare` the corpus is the old one or the new one, whole, and the next run is as an undisturbed one." if not failed else
               "**After a kill of `prepare` a corpus is damaged, or the next run is another: see the table.**")
    common.write_section("killed", "killed", "`prepare` killed", finding, "| kill -9 after, s | the corpus then | the next run | left beside it |\n|---|---|---|---|\n" + "\n".join(rows),
                         f". {size:,.0f} MB of prose over an older corpus of the same name; undisturbed it takes {seconds:.0f} s and {peak:.0f} MB.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
