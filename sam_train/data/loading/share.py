"""Work shared out among the processes of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Share:
    """The part of a task that is one process's: every ``world_size``-th item, from item ``rank`` on.

    Attributes:
        rank: Of this process.
        world_size: How many processes there are.
    """

    rank: int = 0
    world_size: int = 1

    def total(self, count: int) -> int:
        """The sum of all processes' counts; none goes on before all are here."""
        counts = [count]
        if self.world_size > 1:
            counts = [0] * self.world_size
            torch.distributed.all_gather_object(counts, count)
        return sum(counts)

    @classmethod
    def own(cls) -> Share:
        """The share of this process: all there is, unless several processes train together."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls()
