"""What the examples train: a byte-level language model on a text file."""

import os

import torch

SAVE_EVERY, SEED = 50, 1


class Model(torch.nn.Module):
    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, size)
        self.rnn = torch.nn.GRU(size, size, batch_first=True)
        self.out = torch.nn.Linear(size, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(self.embed(x))[0])


def batch(text: torch.Tensor, step: int, rows: int = 16, length: int = 64) -> torch.Tensor:
    """The batch of a step is a function of the step alone: a resumed run sees what an undisturbed one does."""
    random = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    starts = torch.randint(len(text) - length, (rows,), generator=random)
    return torch.stack([text[i : i + length + 1] for i in starts.tolist()]).long()


def save(folder: str, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> str:
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"step-{step}.pt")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path + ".tmp")
    os.replace(path + ".tmp", path)
    return path


def read_text(path: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(open(path, "rb").read()), dtype=torch.uint8)


def loss_of(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    logits = model(rows[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
