"""A training program as users write them, on python/bertd.py: program.py STEPS [WHAT...]. Its step is a sleep, its checkpoint a folder."""
import json
import os
import signal
import socket
import sys
import time

import bertd

steps, what = int(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:])
every, pause = int(what.get("every", 10)), float(what.get("pause", 0.02))
folder = bertd.run_dir("out")


def save(step):
    path = os.path.join(folder, f"checkpoint-{step}")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "state.json"), "w") as f:
        json.dump({"step": step}, f)
    return path


start = bertd.resume()
step = json.load(open(os.path.join(start, "state.json")))["step"] if start else 0
print(f"begin at step {step}")
while step < steps:
    step += 1
    time.sleep(pause)
    bertd.report(step=step, steps=steps, loss=1 / step)
    if step % every == 0 or step == steps or bertd.checkpoint_requested() or bertd.stopping():
        bertd.saved(save(step), step)
        if bertd.stopping():
            bertd.finish_stop()
    for _ in range(30 if step == int(what.get("busy", -1)) else 0):
        bertd.report(busy="evaluation")
        time.sleep(0.1)
    if step == int(what.get("hang", -1)):
        time.sleep(3600)
    if step == int(what.get("die", -1)) and not start:
        time.sleep(1)
        bertd.report(step=step)  # surely sent
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
