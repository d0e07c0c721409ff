"""Report a training program to bertd: its progress, its checkpoints, and how it stops.

    import bertd

    start = load(bertd.resume())                    # None: begin at step 0
    for step in range(start + 1, steps + 1):
        loss = train_step()
        bertd.report(step=step, steps=steps, loss=loss)
        if step % 1000 == 0 or bertd.stopping():
            path = save(bertd.run_dir("out"), step)
            bertd.saved(path, step)
            if bertd.stopping():
                bertd.finish_stop()                 # exits with 75

One file, standard library only, Python 3.8 or newer: copy it beside a program, or `pip install` it.
Outside a job of bertd every function does nothing: resume() is None, stopping() is False, run_dir(x) is x.
No function but finish_stop() raises an exception; none waits for bertd, but the end of the program at most 1 s.
Of several ranks (RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID, LOCAL_RANK) only rank 0 reports; all may call.
Protocol: sd_notify(3) datagrams to $NOTIFY_SOCKET; see PROGRESS OF A COMMAND in bertd-job(5).
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import math
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Union

__all__ = ["checkpoint_requested", "finish_stop", "report", "resume", "run_dir", "saved", "stopping"]

EXIT_STOPPED = 75  # exit status of a program that stopped on request with a checkpoint
_INTERVAL_SEC = 0.1  # between two datagrams of report(), at least; the newest values win
_COST_SEC = 50e-6  # of sending, in each _INTERVAL_SEC at most: where it is slow, fewer are sent, at least one a second
_PENDING_MAX = 64  # reports of checkpoints that the socket did not take at once
_EXIT_WAIT_SEC = 1.0  # for these, when the program ends
_DATAGRAM_MAX = 4096  # bytes; bertd drops longer ones
_TEXTS = ("STATUS", "X_BERTD_BUSY")
_KEYS = ("X_BERTD_STEP", "X_BERTD_STEPS", "X_BERTD_LOSS", "X_BERTD_RATE", *_TEXTS, "WATCHDOG")
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "LOCAL_RANK")  # the first one that is set


class _Link:
    """This process's end of the socket. A forked child starts with a new one."""

    def __init__(self) -> None:
        self.socket: Optional[socket.socket] = None
        self.lock = threading.RLock()  # threads may report, and signal handlers of the program
        self.rank, self.is_job = 0, bool(os.environ.get("BERTD_JOB_ID"))
        self.reports = self.is_job and bool(os.environ.get("NOTIFY_SOCKET"))  # not from another host of the job
        self.fields: Dict[str, Any] = {}  # of report(), not sent yet
        self.copies: Dict[str, "_Copy"] = {}  # of fields that are on a GPU
        self.pending: List[bytes] = []  # of saved() and declarations, oldest first
        self.due = -math.inf  # monotonic seconds of the next datagram of report()
        self.greeted = self.handles_signals = self.stop = self.checkpoint = False


_link = _Link()
os.register_at_fork(after_in_child=_link.__init__)  # type: ignore[misc]


class _Copy:
    """A number on a GPU (PyTorch), on its way into pinned memory: int() and float() would wait for the GPU."""

    def __init__(self, tensor: Any) -> None:
        gpu = getattr(sys.modules["torch"], tensor.device.type)  # torch.cuda, torch.xpu
        self.event = gpu.Event()
        self.value = tensor.detach().reshape(()).to("cpu", non_blocking=True)
        self.event.record(gpu.current_stream(tensor.device))


def _send(message: bytes) -> bool:
    """False: the socket's queue is full, or the socket is missing at the moment."""
    try:
        _link.socket = _link.socket or socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        address = os.environ.get("NOTIFY_SOCKET", "")
        _link.socket.sendto(message, "\0" + address[1:] if address.startswith("@") else address)
        return True
    except OSError:
        return False


def _describe() -> bytes:
    """The fields as a datagram. Those on a GPU stay until their copies are complete."""
    lines = []
    for key, value in list(_link.fields.items()):  # copied: a signal handler may report, too
        try:
            _link.fields[key] = value.detach()  # PyTorch warns of float() with a gradient
            if value.device.type != "cpu":
                del _link.fields[key]
                _link.copies[key] = _link.copies.get(key) or _Copy(value)
        except Exception:  # not a tensor
            continue
    for key in list(_link.copies):
        with contextlib.suppress(Exception):  # the GPU may have failed
            if _link.copies[key].event.query():
                _link.fields[key] = _link.copies.pop(key).value
    for key, value in list(_link.fields.items()):
        try:
            text = str(value) if key in _TEXTS else str(int(value)) if "STEP" in key else format(float(value), ".9g")
            lines.append(f"{key}={' '.join(text.split())[:255]}")
        except Exception:  # not a number: no progress is worth a run
            pass
    return "\n".join(lines).encode(errors="replace")


def _flush(now: bool) -> bool:
    """Sends what is pending, then the progress, if it is due or `now`. True: nothing is left."""
    while _link.pending and _send(_link.pending[0]):
        del _link.pending[:1]  # perhaps sent by a signal handler meanwhile
    clock = time.monotonic()
    if not _link.pending and (now or clock >= _link.due):
        if not (message := _describe()) or _send(message):
            _link.fields.clear()
            _link.due = clock + _INTERVAL_SEC * min(10, 1 + (time.monotonic() - clock) / _COST_SEC)
    return not (_link.pending or _link.fields or _link.copies)


def _queue(message: bytes) -> None:
    """For what must arrive: a later call sends it if the socket does not take it now."""
    del _link.pending[: max(0, len(_link.pending) - _PENDING_MAX + 1)]
    _link.pending.append(message)


def _greet() -> None:
    """The first call. On SIGQUIT each process of the job writes the stacks of all its threads to its own file."""
    if _link.greeted:
        return
    _link.greeted = True
    ranks = (os.environ.get(name, "") for name in _RANKS)
    _link.rank = next((int(rank) for rank in ranks if rank.isdecimal()), 0)
    atexit.register(_at_exit)
    if _link.rank == 0:
        _queue(b"READY=1")
    with contextlib.suppress(AttributeError, LookupError, OSError, RuntimeError, ValueError):
        name = os.path.join(os.environ["BERTD_STACKS"] or os.devnull, f"python-{os.getpid()}.txt")
        faulthandler.register(signal.SIGQUIT, file=open(name, "w"), all_threads=True)
        _queue(f"X_BERTD_RANK={_link.rank}\nX_BERTD_STACKS=QUIT".encode())


def _at_exit() -> None:
    end = time.monotonic() + _EXIT_WAIT_SEC
    with _link.lock:
        while not _flush(now=True) and time.monotonic() < end:
            time.sleep(0.01)


def report(*, step: Optional[int] = None, steps: Optional[int] = None, loss: Any = None, rate: Optional[float] = None,
           status: Optional[str] = None, busy: Optional[str] = None) -> None:  # fmt: skip
    """Reports progress. Call it after every step: at most ten datagrams a second are sent, and values converted.

    step: completed updates; the first arms the hang detection. steps: total updates. loss: of the last update; NaN is
    shown as unknown. rate: samples per second. status: one line, at most 255 characters. busy: work between two steps,
    such as an evaluation, reported with every batch so that it is no hang. Each is optional; what is not a number is
    ignored. A number may be a tensor of one; on a GPU it is not waited for: a later report sends it.
    """
    if not _link.reports:
        return
    with _link.lock:
        _greet()
        if _link.rank == 0:
            for key, value in zip(_KEYS, (step, steps, loss, rate, status, busy, busy and 1)):
                if value is not None:
                    _link.fields[key] = value
        _flush(now=False)


def saved(path: Union[str, "os.PathLike[str]"], step: int) -> None:
    """Reports a checkpoint: a file or a folder below the job's run folder or working directory.

    Call it when everything is written; bertd flushes it to disk before it counts. step: completed updates in it, from
    1. A path or a step that cannot be sent is reported on stderr.
    """
    if not _link.reports:
        return
    try:
        name = os.fsencode(os.path.abspath(path))
        message = b"X_BERTD_CHECKPOINT_STEP=%d\nX_BERTD_CHECKPOINT=%s" % (step, name)
        if step < 1 or b"\n" in name or len(message) > _DATAGRAM_MAX:
            raise ValueError("expected a step from 1 and a path of one line")
    except Exception as error:
        with contextlib.suppress(Exception):  # stderr may be closed
            print(f"bertd: checkpoint {str(path)[:200]!r}: {error}; not recorded", file=sys.stderr)
        return
    with _link.lock:
        _greet()
        if _link.rank == 0:
            _flush(now=True)  # earlier progress first
            _queue(message)
            _flush(now=False)


def resume() -> Optional[str]:
    """Path of the checkpoint to load, on every host of the job; None: start from step 0."""
    return os.environ.get("BERTD_RESUME") or None if _link.is_job else None


def run_dir(default: str) -> str:
    """The job's run folder, the same for all its attempts; `default` outside bertd."""
    return os.environ.get("BERTD_RUN_DIR") or default if _link.is_job else default


def _on_signal(number: int, _frame: Any) -> None:
    _link.stop |= number == signal.SIGUSR1
    _link.checkpoint |= number == signal.SIGUSR2


def _declare_signals() -> None:
    """Of rank 0, which bertd signals; only the main thread can set handlers."""
    if _link.handles_signals or not _link.reports or threading.current_thread() is not threading.main_thread():
        return
    with _link.lock:
        _link.handles_signals = True
        _greet()
        if _link.rank == 0:
            signal.signal(signal.SIGUSR1, _on_signal)
            signal.signal(signal.SIGUSR2, _on_signal)
            _queue(f"MAINPID={os.getpid()}\nX_BERTD_SIGNALS=stop:USR1,checkpoint:USR2".encode())
            _flush(now=False)


def stopping() -> bool:
    """True when bertd wants the job to stop (pause, shutdown): write a checkpoint, call saved(), then finish_stop().

    The first call in the main thread takes over SIGUSR1 and SIGUSR2; a program that never calls it gets SIGTERM.
    Of several ranks only rank 0 gets the request; bertd_torch.StopVote passes it on with torch.distributed.
    """
    _declare_signals()
    return _link.stop


def checkpoint_requested() -> bool:
    """True once after each `bertctl checkpoint`: write a checkpoint now, and continue."""
    _declare_signals()
    requested, _link.checkpoint = _link.checkpoint, False
    return requested


def finish_stop() -> None:
    """Ends the program with exit status 75, stopped on request (raises SystemExit). Outside bertd it returns."""
    if _link.is_job:
        _at_exit()
        sys.exit(EXIT_STOPPED)
