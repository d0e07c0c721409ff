"""What tests in Python share that run real daemons and jobs: where the programs are, a corpus and a model to train, what state.db must be."""
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build")).resolve()
BERTD, BERTCTL, TRAINER = (str(BUILD / name) for name in ("daemon/bertd", "ctl/bertctl", "trainer/bert-trainer"))
ENDED = ("done", "failed", "cancelled")
LINUX_DOC = pathlib.Path("/usr/share/doc/linux-doc-6.1")


def preloaded(name, home):
    """Where a library of tests/fault lies for LD_PRELOAD, in whose paths a blank may not be."""
    return shutil.copy(BUILD / f"tests/lib{name}.so", home)


def real_text():
    """Files of English prose: some of Debian's linux-doc, without it this project's own."""
    texts = sorted(path for path in LINUX_DOC.rglob("*.rst.txt") if path.stat().st_size < 60 << 10)
    return texts[::40] or [ROOT / "README.md", ROOT / "LICENSE"]


def make_corpus(home, texts, vocab_size, hidden_size, layers):
    """vocab.txt, corpus and the config.json of a small model in the folder home."""
    vocab = f"{home}/vocab.txt"
    for words in (["vocab", "--size", str(vocab_size), "--output", vocab],
                  ["prepare", "--vocab", vocab, "--format", "prose", "--output", f"{home}/corpus"]):
        subprocess.run([TRAINER, *words, *texts], check=True, stderr=subprocess.DEVNULL)
    with open(vocab) as f:
        size = len(f.readlines())
    config = dict(vocab_size=size, hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=2,
                  intermediate_size=2 * hidden_size, max_position_embeddings=64, type_vocab_size=2, hidden_act="gelu",
                  hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, initializer_range=0.02, layer_norm_eps=1e-12,
                  model_type="bert")
    with open(f"{home}/config.json", "w") as f:
        json.dump(config, f)


def processes():
    """(pid, command line, environment) of each process that we may look at."""
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            except OSError:
                pass


def kill_all_of(home):
    """SIGKILL to daemon, shims, jobs and ranks of a daemon that has its state below the folder home."""
    for pid, command, environment in list(processes()):
        if pid != os.getpid() and f"{home}/".encode() in command + environment:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def check_state(path):
    """State of each job in a state.db whose daemon has stopped and whose jobs should all have ended, and what is wrong with it."""
    problems = []
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
        problems.append("state.db is corrupt")
    states = dict(db.execute("SELECT id, state FROM job"))
    for job, state in states.items():
        before = None
        for origin, target, what in db.execute("SELECT from_state, to_state, what FROM event WHERE job=? ORDER BY id", (job,)):
            if what == "dropped":  # it stands for others
                before = None
                continue
            if before and origin != before:
                problems.append(f"job {job}: event {what} goes from {origin}, but the job was {before}")
            before = target
        if before != state:
            problems.append(f"job {job} is {state}, its last event says {before}")
        if state not in ENDED:
            problems.append(f"job {job} is still {state}")
        numbers = [n for n, in db.execute("SELECT number FROM attempt WHERE job=? ORDER BY number", (job,))]
        newest = max(numbers, default=0)
        if numbers != [n for n in range(1, newest + 1) if n <= 10 or n > newest - 90]:
            problems.append(f"job {job}: attempts {numbers}")
        if db.execute("SELECT count(*) FROM attempt WHERE job=? AND open=1", (job,)).fetchone()[0]:
            problems.append(f"job {job}: an attempt is still open")
    db.close()
    return states, problems
