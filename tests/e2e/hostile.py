#!/usr/bin/env python3
"""A hostile neighbour: hostile.py SOCKET MODE SECONDS, MODE one of flood, slow, half, huge, unfinished, held, waits, parts, pings, garbage, calls,
passes; or `honest`: a
client that connects, reads, and prints the p99 of that in milliseconds."""
import array, random, socket, struct, sys, time
from bus import AUTH, call, connect


def attempt(opened, path, first):
    try:
        s = connect(path)
        s.sendall(first)
        opened.append(s)
    except OSError:
        pass


def keep(opened, most):
    while len(opened) > most:
        opened.pop(0).close()


def flood(path, opened):
    attempt(opened, path, b"")
    keep(opened, 500)


def slow(path, opened):
    attempt(opened, path, AUTH)
    for s in opened:
        s.setblocking(False)
        try:
            for serial in range(2, 40):
                s.sendall(call("ListJobs", serial, struct.pack("<QII", 0, 500, 0), "tub"))
        except OSError:
            pass
    keep(opened, 80)


def half(path, opened):
    attempt(opened, path, random.choice((b"\0AUTH EXT", AUTH, AUTH + b"l\1\0\1\0\0")))
    keep(opened, 80)


def huge(path, opened):
    attempt(opened, path, AUTH + call("Submit", 2, b"\0" * 4096, "a{sv}", random.choice((127 << 20, 5 << 20, 0xffffffff))))
    keep(opened, 80)


def unfinished(path, opened):
    """Just below the limit, all but the end."""
    attempt(opened, path, AUTH)
    if opened:
        opened[-1].settimeout(0.2)
        try:
            opened[-1].sendall(call("Submit", 2, b"\0" * (2200 << 10), "a{sv}", 2201 << 10))
        except OSError:
            pass
    keep(opened, 80)


def held(path, opened):
    """A few as large, that nobody goes on with: there is room for one."""
    if len(opened) < 8:
        attempt(opened, path, AUTH + call("Submit", 2, b"\0" * (40 << 10), "a{sv}", 2201 << 10))


def waits(path, opened):
    """Calls that are answered late, each as large as it may be, though it says little."""
    if len(opened) < 8:
        attempt(opened, path, AUTH)
    s = random.choice(opened)
    s.settimeout(0.2)
    try:
        s.sendall(call("Wait", 2, struct.pack("<Q", 1) + bytes(300 << 10), "t"))
    except OSError:
        s.close()
        opened.remove(s)


def parts(path, opened):
    """Of an object's path every part is looked at, by who answers that there is none."""
    if len(opened) < 40:
        attempt(opened, path, AUTH)
    for s in list(opened):
        try:
            s.sendall(call("NoSuchMethod", 2, path="/a" * 20000))
        except OSError:
            s.close()
            opened.remove(s)


def pings(path, opened):
    """What bertd's library answers before bertd sees it."""
    if len(opened) < 60:
        attempt(opened, path, AUTH)
    for s in list(opened):
        try:
            s.sendall(call("Ping", 2, interface="org.freedesktop.DBus.Peer"))
            s.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            s.close()
            opened.remove(s)


def garbage(path, opened):
    attempt(opened, path, random.choice((b"", AUTH)) + random.randbytes(random.randrange(1, 5000)))
    keep(opened, 80)


def calls(path, opened):
    """Well-formed calls about what is not ours, with forged names and nonces."""
    attempt(opened, path, AUTH)
    if not opened:
        return
    text = lambda t: struct.pack("<I", len(t)) + t + b"\0"
    pad = lambda b, n: b + b"\0" * (-len(b) % n)
    hello = pad(struct.pack("<QI", 1, 1) + text(b"0" * 32), 4) + text(b"1")
    try:
        for serial, (method, body, signature) in enumerate((
                ("AttemptHello", hello, "tuss"), ("Cancel", struct.pack("<QI", 1, 1), "tb"), ("Pause", struct.pack("<Q", 1), "t"),
                ("Remove", struct.pack("<Q", 1), "t"), ("GetSpec", struct.pack("<Q", 1), "t"), ("Shutdown", struct.pack("<I", 1), "b"),
                ("Cancel", struct.pack("<Q", 1), "t"), ("NoSuchMethod", b"", "")), 2):
            opened[-1].sendall(call(method, serial, body, signature))
    except OSError:
        pass
    keep(opened, 40)


def lingering():
    """A connection whose last close lasts a minute, because its peer does not read; both ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    try:
        while near.send(b"x" * 65536):
            pass
    except BlockingIOError:
        near.setblocking(True)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return near, far


def passes(path, opened):
    """Passes descriptors, with the first byte or within a message; some are never read."""
    near, far = lingering()
    opened.append(far)  # to the end
    try:
        with connect(path) as s:
            first = random.choice((b"", AUTH, AUTH + call("Submit", 2, b"\0" * 4096, "a{sv}", 4096)[:50]))
            s.sendall(first)
            s.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [near.fileno()]))])
            near.close()
            time.sleep(random.choice((0, 0.05)))
    except OSError:
        pass


def honest(path, seconds):
    """Authentication and first call in one packet, as some D-Bus libraries send them."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end or not took:
        begin, reply = time.monotonic(), b""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)  # waits where the queue is full
            s.settimeout(10)
            s.sendall(AUTH + call("GetDaemon", 2))
            while b"slots_used" not in reply:
                reply += s.recv(65536) or sys.exit("the connection was closed")
        took.append(time.monotonic() - begin)
        time.sleep(0.01)
    print(f"{sorted(took)[int(len(took) * 0.99)] * 1000:.1f}")


def main():
    path, mode, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if mode == "honest":
        return honest(path, seconds)
    end, opened, tries = time.monotonic() + seconds, [], 0
    while time.monotonic() < end:
        globals()[mode](path, opened)
        tries += 1
        if mode != "flood":
            time.sleep(0.005)
    print(tries)


main()
