"""Distributed data parallel under bertd: torchrun --nproc-per-node N torchrun.py TEXT [STEPS]."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

import bertd
from bertd_torch import StopVote
from byte_model import SAVE_EVERY, SEED, Model, batch, loss_of, read_text, save


@record  # a rank that fails leaves its traceback where bertd finds it
def main() -> None:
    text = read_text(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    gpus = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpus else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if gpus else torch.device("cpu")
    torch.manual_seed(SEED)
    model = Model().to(device)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step, start = 0, bertd.resume()
    if start:
        # Rank 0 alone reads and writes checkpoints: they may lie on the disk of its host.
        loaded = [torch.load(start, map_location="cpu", weights_only=True) if rank == 0 else None]
        dist.broadcast_object_list(loaded, device=device)
        saved = loaded[0]
        step = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    if rank == 0:
        print(f"begin at step {step}", flush=True)
    vote = StopVote()

    while step < steps:
        step += 1
        loss = loss_of(parallel, batch(text, step)[rank::ranks].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bertd.report(step=step, steps=steps, loss=loss.detach())
        stop, checkpoint = vote()
        if rank == 0 and (step % SAVE_EVERY == 0 or step == steps or stop or checkpoint):
            bertd.saved(save(bertd.run_dir("out"), step, model, optimizer), step)
        if stop and step < steps:
            dist.barrier()  # rank 0 has saved
            bertd.finish_stop()
    dist.destroy_process_group()


main()
