"""saves.py FILE [SECONDS [WORKERS]]: a program that saves when it is told to stop. SIGTERM: it says "saving", takes SECONDS, writes to FILE how
often it was told, and ends. Its workers have no handler, and it dies of their death, as a loop with a DataLoader does."""
import os, signal, sys, time

told = 0


def term(*_):
    global told
    told += 1


file, seconds, n_workers = sys.argv[1], *(float(a) for a in (sys.argv[2:] + ["1", "0"][len(sys.argv) - 2 :]))
workers = []
for _ in range(int(n_workers)):
    pid = os.fork()
    if pid == 0:
        while True:
            time.sleep(100)
    workers.append(pid)
signal.signal(signal.SIGTERM, term)
print("up", flush=True)
open(file + ".up", "w").close()
while not told:
    time.sleep(0.05)
    if any(os.waitpid(pid, os.WNOHANG)[0] for pid in workers):
        sys.exit("a worker died")
print("saving", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    time.sleep(0.05)
    if any(os.waitpid(pid, os.WNOHANG)[0] for pid in workers):
        sys.exit("a worker died")
open(file, "w").write(f"saved, told {told}\n")
print("saved", flush=True)
for pid in workers:
    os.kill(pid, signal.SIGKILL)
