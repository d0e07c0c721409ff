"""Hugging Face's Trainer under bertd: progress, loss, checkpoints, and a stop with a checkpoint. See bertd.py.

    trainer = Trainer(..., args=TrainingArguments(output_dir=bertd.run_dir("out"), save_steps=500),
                      callbacks=[BertdCallback()])
    trainer.train(resume_from_checkpoint=bertd.resume())

Outside a job of bertd the callback does nothing.
"""

from __future__ import annotations

import os
from typing import Any, Optional

import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import bertd
from bertd_torch import StopVote


class BertdCallback(TrainerCallback):
    """Reports steps (optimizer updates) and the logged loss; each saved folder once every rank has written it.

    Asked to stop, all ranks finish the step under way, save, and exit with status 75.
    """

    def __init__(self) -> None:
        self._vote: Optional[StopVote] = None
        self._stopping = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._vote = StopVote()
        self._stopping = False
        bertd.report(step=state.global_step, steps=state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        bertd.report(step=state.global_step, steps=state.max_steps)
        stop, checkpoint = self._vote() if self._vote else (False, False)
        if state.global_step >= state.max_steps:
            return
        self._stopping |= stop
        control.should_save |= stop or checkpoint
        control.should_training_stop |= stop

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        bertd.report(loss=(logs or {}).get("loss"))

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        bertd.report(busy="evaluation")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.barrier()  # every rank writes a file of its own
        bertd.saved(os.path.join(str(args.output_dir), f"checkpoint-{state.global_step}"), state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._stopping:
            bertd.finish_stop()
