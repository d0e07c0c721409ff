"""torch.distributed: every rank knows at the same step that rank 0 was asked to stop. Needs PyTorch; see bertd.py."""

from __future__ import annotations

from typing import Any, Tuple

import torch
import torch.distributed as dist

import bertd


class StopVote:
    """Call it once a step, on every rank, after the update: (stop, checkpoint), the same on every rank.

        vote = StopVote()                               # after init_process_group()
        ...
        stop, checkpoint = vote()

    What rank 0 was asked for is known one call later, so that no rank waits for another, nor for its GPU: the
    vote goes over a gloo group of its own. Without a process group it is bertd.stopping() itself.
    """

    def __init__(self) -> None:
        bertd.stopping()
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self._group: Any = dist.new_group(backend="gloo") if several else None
        self._votes = torch.zeros(2, dtype=torch.int64)
        self._work: Any = None

    def __call__(self) -> Tuple[bool, bool]:
        mine = bertd.stopping(), bertd.checkpoint_requested()
        if self._group is None:
            return mine
        if self._work is not None:
            self._work.wait()
        stop, checkpoint = bool(self._votes[0]), bool(self._votes[1])
        self._votes = torch.tensor(mine, dtype=torch.int64)
        self._work = dist.all_reduce(self._votes, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return stop, checkpoint
