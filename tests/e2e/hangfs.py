#!/usr/bin/env python3
"""Mounts a file system that never answers: hangfs.py FOLDER [taken]. Prints a line once it is there; ends with it. With "taken" its requests are
read, after which the kernel lets not even SIGKILL end who waits."""
import ctypes
import os
import signal
import sys

MNT_DETACH = 2

folder, taken = os.fsencode(sys.argv[1]), len(sys.argv) > 2
device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"hangs", folder, b"fuse", 0, options.encode()) != 0:
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")


def end(*_):
    libc.umount2(folder, MNT_DETACH)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
print("mounted", flush=True)
while True:
    if taken:
        os.read(device, 1 << 20)
    else:
        signal.pause()
