#!/usr/bin/env python3
"""A program of one process a host, as bertd starts it over several: rank 0 adds up what the others send, and saves the sum.

    ring.py STEPS SECONDS     the sum after STEPS steps, each of so many seconds, lies in RUN_DIR/sum-STEPS
"""
import os
import socket
import sys
import time

sys.path.insert(0, "/usr/share/bertd/python")
import bertd  # noqa: E402

EVERY = 20


def meet(rank, world):
    """Rank 0's connections to all others; of another rank, the one to rank 0."""
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        server = socket.create_server(place)
        return [server.accept()[0] for _ in range(world - 1)]
    for _ in range(100):
        try:
            return [socket.create_connection(place, 5)]
        except OSError:
            time.sleep(0.1)
    sys.exit(f"rank {rank}: {place[0]}:{place[1]} does not answer")


def begin(peers, rank):
    """Step and sum to begin with: rank 0 has the run's files, and tells the others the step."""
    path = bertd.resume() if rank == 0 else None
    step, total = map(int, open(path).read().split()) if path else (0, 0)
    for peer in peers:
        if rank == 0:
            peer.sendall(step.to_bytes(8, "little"))
        else:
            step = int.from_bytes(peer.recv(8, socket.MSG_WAITALL), "little")
    return step, total


def save(step, total):
    path = os.path.join(bertd.run_dir("."), f"sum-{step}")
    with open(path + ".part", "w") as file:
        file.write(f"{step} {total}\n")
    os.rename(path + ".part", path)
    bertd.saved(path, step)


def main():
    steps, seconds = int(sys.argv[1]), float(sys.argv[2])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    peers = meet(rank, world)
    step, total = begin(peers, rank)
    while step < steps:
        step += 1
        time.sleep(seconds)
        for peer in peers:
            if rank == 0:
                total += int.from_bytes(peer.recv(8, socket.MSG_WAITALL) or sys.exit("a rank is gone"), "little")
                peer.sendall(b"1")
            else:
                peer.sendall((step * rank).to_bytes(8, "little"))
                peer.recv(1) or sys.exit("rank 0 is gone")
        bertd.report(step=step, steps=steps)
        if rank == 0 and step % EVERY == 0:
            save(step, total)


if __name__ == "__main__":
    main()
