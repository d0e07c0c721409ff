"""Lightning under bertd: python lightning_trainer.py TEXT [STEPS]. Trains a byte-level language model on a text file."""

import os
import sys

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import bertd
from bertd_lightning import BertdCallback
from byte_model import SAVE_EVERY, SEED, Model, batch, loss_of, read_text


class LanguageModel(pl.LightningModule):
    def __init__(self, text: torch.Tensor) -> None:
        super().__init__()
        self.model = Model()
        self.text = text

    def training_step(self, _: torch.Tensor, index: int) -> torch.Tensor:
        # Resumed in an epoch, Lightning begins the loader's data again: here the step alone chooses the batch.
        return loss_of(self.model, batch(self.text, self.global_step + 1).to(self.device))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    folder = bertd.run_dir("out")
    pl.seed_everything(SEED)
    trainer = pl.Trainer(
        max_steps=steps,
        num_nodes=int(os.environ.get("NNODES", "1")),
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or "auto",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        callbacks=[BertdCallback(), ModelCheckpoint(folder, every_n_train_steps=SAVE_EVERY, save_top_k=-1)],
    )
    loader = torch.utils.data.DataLoader(range(steps))
    print(f"begin at {bertd.resume() or 'step 0'}", flush=True)
    trainer.fit(LanguageModel(read_text(sys.argv[1])), loader, ckpt_path=bertd.resume())
    if trainer.global_step % SAVE_EVERY:  # ModelCheckpoint has saved nothing of the last steps
        path = os.path.join(folder, "last.ckpt")
        trainer.save_checkpoint(path)
        bertd.saved(path, trainer.global_step)


main()
