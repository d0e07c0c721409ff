#!/usr/bin/env python3
"""Jobs that do not want to end: killing.py MODE FILE. Each notes the pids of what it leaves behind in FILE, one a line.
  hidden    daemons without the job's environment, session or group, and one that erases its environment; then it waits
  done      the same, then it ends well
  reports   stops its shim and tells bertd once a second that the attempt has ended
  storm     forks as fast as it may, in all children
  frozen    the same, its shim stopped"""
import os, signal, subprocess, sys, time


def note(pid):
    with open(sys.argv[2], "a") as f:
        f.write(f"{pid}\n")


def erase_environment():
    """As setproctitle does."""
    fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
    begin, end = int(fields[47]), int(fields[48])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        memory.write(b"\0" * (end - begin))


def daemon(main):
    """Orphaned twice, in a session of its own. Returns when it is ready."""
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(os.getpid())
            main(done)
        os._exit(0)
    os.close(done)
    os.wait()
    os.read(ready, 1)


def erased(done):
    erase_environment()
    assert not open("/proc/self/environ").read().strip("\0")
    os.write(done, b"x")
    time.sleep(1000)


def without_environment(done):
    os.write(done, b"x")
    os.execve("/bin/sleep", ["sleep", "1000"], {})


def hide():
    daemon(erased)
    daemon(without_environment)
    note(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)


def shim():
    return os.getppid()


def hidden():
    hide()
    print("hidden", flush=True)
    time.sleep(1000)


def reports():
    note(os.getpid())
    call = ["busctl", "--address=unix:path=" + os.environ["BERTD_SOCKET"], "call", "org.bertd1", "/org/bertd1", "org.bertd1.Manager",
            "AttemptReport", "a{sv}", "4", "job", "t", os.environ["BERTD_JOB_ID"], "attempt", "u", os.environ["BERTD_ATTEMPT"],
            "nonce", "s", os.environ["BERTD_NONCE"], "exited", "b", "true"]
    print("reports", flush=True)
    while not os.path.exists(sys.argv[2] + ".go"):
        time.sleep(0.1)
    os.kill(shim(), signal.SIGSTOP)
    while True:
        subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)


def storm():
    print("storm", flush=True)
    for ignored in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        signal.signal(ignored, signal.SIG_IGN)
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            time.sleep(0.005)  # a hundred of them take what is freed at once all the same, and leave the host some time


def frozen():
    os.kill(shim(), signal.SIGSTOP)
    storm()


def done():
    hide()


globals()[sys.argv[1]]()
