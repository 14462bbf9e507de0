"""Work shared out among the processes of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """One process's part of a task: every ``world_size``-th item, from item ``rank`` on.

    Attributes:
        rank: Rank of this process.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def total(self, count: int) -> int:
        """Return the sum of all processes' counts, once every process has called."""
        counts = [count]
        if self.world_size > 1:
            counts = [0] * self.world_size
            torch.distributed.all_gather_object(counts, count)
        return sum(counts)

    @classmethod
    def own(cls) -> Share:
        """Return the share of this process: everything, unless several processes train together."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls()
