"""Stands in for python/bertd.py where the examples run without bertd: they begin from their newest checkpoint, as users' scripts do.
The file "steps" gets a line for each step, and "begin STEP" for each attempt; proof.py reads it."""
import glob
import os
import re


def step_of(path):
    return int(re.findall(r"(\d+)\D*$", path)[-1])


def newest(folder="out"):
    found = [p for pattern in ("step-*.pt", "checkpoint-*", "*step=*.ckpt") for p in glob.glob(os.path.join(folder, pattern))]
    return max(found, key=step_of, default=None)


def _note(line):
    if os.environ.get("RANK", "0") == "0":
        with open("steps", "a") as f:
            f.write(f"{line}\n")


def resume():
    path = newest()
    _note(f"begin {step_of(path) if path else 0}")
    return path


def run_dir(default):
    return default


def report(*, step=None, **_):
    if step is not None:
        _note(step)


def saved(path, step):
    return None


def stopping():
    return False


checkpoint_requested = stopping


def finish_stop():
    return None
