"""Lightning under bertd: progress, loss, checkpoints, and a stop with a checkpoint. See bertd.py.

    trainer = Trainer(..., default_root_dir=bertd.run_dir("out"), callbacks=[BertdCallback(), ModelCheckpoint(...)])
    trainer.fit(model, data, ckpt_path=bertd.resume())

Outside a job of bertd the callback does nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Optional, Set

try:
    import lightning.pytorch as pl
except ImportError:
    import pytorch_lightning as pl  # type: ignore[no-redef]

import bertd
from bertd_torch import StopVote


class BertdCallback(pl.Callback):
    """Reports steps (trainer.global_step) and the loss that training_step returns; each checkpoint that a
    ModelCheckpoint of the trainer has written.

    Asked to stop, all ranks finish the step under way, save `bertd-stop.ckpt`, and exit with status 75.
    """

    def __init__(self) -> None:
        self._vote: Optional[StopVote] = None
        self._known: Dict[str, int] = {}
        self._step = self._saved_step = 0
        self._writing = False  # a checkpoint was begun, and not seen yet

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._vote = StopVote()
        self._known = self._written(trainer)
        self._step = trainer.global_step
        bertd.report(step=trainer.global_step, steps=self._steps(trainer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        bertd.report(step=trainer.global_step, steps=self._steps(trainer), loss=loss)
        self._report_checkpoints(trainer)
        if trainer.global_step == self._step or self._vote is None:
            return  # gradients are accumulated: they are not in a checkpoint
        self._step = trainer.global_step
        stop, checkpoint = self._vote()
        if (stop or checkpoint) and self._step != self._steps(trainer):
            self._save(trainer)
            if stop:
                bertd.finish_stop()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Dict[str, Any]
    ) -> None:
        self._saved_step = trainer.global_step  # of the file that is written next
        self._writing = True

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        bertd.report(busy="validation")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_checkpoints(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report_checkpoints(trainer)

    @staticmethod
    def _steps(trainer: pl.Trainer) -> Optional[int]:
        if trainer.max_steps > 0:
            return trainer.max_steps
        steps = trainer.estimated_stepping_batches
        return int(steps) if steps != float("inf") else None

    @staticmethod
    def _written(trainer: pl.Trainer) -> Dict[str, int]:
        """Paths with their time of modification: a name such as last.ckpt is used again."""
        paths: Set[str] = set()
        for callback in trainer.checkpoint_callbacks:
            for name in ("best_model_path", "last_model_path"):
                paths.add(getattr(callback, name, ""))
            paths.update(getattr(callback, "best_k_models", {}))
        found = {}
        for path in paths:
            with contextlib.suppress(OSError):  # removed meanwhile, or not on this host
                if not os.path.islink(path):  # save_last="link"
                    found[path] = os.stat(path).st_mtime_ns
        return found

    def _report_checkpoints(self, trainer: pl.Trainer) -> None:
        if not self._writing:
            return
        written = self._written(trainer)
        for path, changed in written.items():
            if self._known.get(path) != changed:
                bertd.saved(path, self._saved_step)
                self._writing = False
        self._known = written

    def _save(self, trainer: pl.Trainer) -> None:
        path = os.path.join(trainer.default_root_dir, "bertd-stop.ckpt")
        trainer.save_checkpoint(path)  # returns on every rank once the file is whole
        self._writing = False
        bertd.saved(path, trainer.global_step)
