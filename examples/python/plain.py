"""A PyTorch loop that bertd keeps alive: python plain.py TEXT [STEPS]."""

import sys

import torch

import bertd
from byte_model import SAVE_EVERY, SEED, Model, batch, loss_of, read_text, save


def main() -> None:
    text = read_text(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    torch.manual_seed(SEED)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step, start = 0, bertd.resume()
    if start:
        saved = torch.load(start, weights_only=True)
        step = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    print(f"begin at step {step}", flush=True)

    while step < steps:
        step += 1
        loss = loss_of(model, batch(text, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bertd.report(step=step, steps=steps, loss=loss.detach())
        if step % SAVE_EVERY == 0 or step == steps or bertd.stopping() or bertd.checkpoint_requested():
            bertd.saved(save(bertd.run_dir("out"), step, model, optimizer), step)
            if bertd.stopping() and step < steps:
                bertd.finish_stop()


main()
