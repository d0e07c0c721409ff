#!/usr/bin/env python3
"""The bytes that a step of BERT large moves between a GPU's memory and the GPU, counted without a GPU by tests/gpu/traffic.c; about half an hour.

    traffic.py TRAFFIC              prints a table (Markdown) of what that program counts: ninja -C build tests/gpu/traffic
    traffic.py BEFORE AFTER         of two such programs: "before → after", one number where they are the same

Counted are sectors of 32 bytes, each once for each launch that reads it and once for each that writes it. What one launch leaves in the cache
for the next is not known here, so a GPU moves less."""
import collections
import os
import pathlib
import re
import subprocess
import sys

CONFIG = os.environ.get("CONFIG", str(pathlib.Path(__file__).resolve().parents[2] / "examples/configs/bert-large-uncased.json"))
TOKENS, LENGTHS = os.environ.get("TOKENS", "2048"), ("128", "512")
PARTS = {  # what the module's functions launch
    "products": r"products|multiply_plainly",
    "attention": r"launch|cuda_attention_\w+",
    "norms": r"(launch_)?forward|backward",
    "GELU": r"launch_activation|launch_derivative|cuda_activation_backward",
    "bias gradients": r"(cuda_)?add_column_sums|cuda_add_parts|cuda_linear_dw_db|bias_gradients",
    "softmax and loss": r"cuda_softmax_xent",
    "embeddings, chosen rows": r"cuda_embed_\w+|cuda_(gather|scatter_add)_rows",
    "update": r"update_all",
    "zeroing, copies": r"zeroing|copies",
}


def part_of(function):
    return next((part for part, pattern in PARTS.items() if re.fullmatch(pattern, function)), function)


def count(program):
    """(part, column) → GB."""
    moved = collections.Counter()
    for length in LENGTHS:
        out = subprocess.run([program, CONFIG, length, TOKENS], stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in out.splitlines():
            phase, function, _, read, written = line.split("\t")
            if phase != "update" or length == LENGTHS[0]:
                column = phase if phase == "update" else f"{phase}, {length}"
                moved[part_of(function), column] += (int(read) + int(written)) / 1e9
                moved["all", column] += (int(read) + int(written)) / 1e9
    return moved


def main():
    counts = [count(program) for program in sys.argv[1:]]
    columns = [f"{phase}, {length}" for length in LENGTHS for phase in ("first", "further")] + ["update"]
    parts = list(dict.fromkeys([*PARTS, *(part for moved in counts for part, _ in moved if part != "all"), "all"]))
    print("| GB | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for part in parts:
        cells = [" → ".join(dict.fromkeys(f"{moved[part, column]:.2f}" for moved in counts)) for column in columns]
        if any(moved[part, column] for moved in counts for column in columns):
            print(f"| {part} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
