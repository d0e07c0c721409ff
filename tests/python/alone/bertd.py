"""Stands in for python/bertd.py where the examples run without bertd: they begin from their newest checkpoint, as users' scripts do."""
import glob
import os
import re


def _step(path):
    return int(re.findall(r"(\d+)\D*$", path)[-1])


def resume():
    found = [p for pattern in ("step-*.pt", "checkpoint-*", "*step=*.ckpt") for p in glob.glob("out/" + pattern)]
    return max(found, key=_step, default=None)


def run_dir(default):
    return default


def report(*, step=None, **_):
    if step is not None and os.environ.get("RANK", "0") == "0":
        with open("steps", "w") as f:
            f.write(str(step))


def saved(path, step):
    return None


def stopping():
    return False


checkpoint_requested = stopping


def finish_stop():
    return None
