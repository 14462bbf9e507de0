"""Orders that keep together what lies together."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def mixed_by_turns(shards: Int[Tensor, "n"], at_once: int, generator: torch.Generator) -> Int[Tensor, "n"]:
    """Return indices in an order that mixes all of a few shards, then all of the next few.

    Args:
        shards: Number of the shard of each index.
        at_once: How many shards are mixed.
        generator: Of the order of shards and indices.
    """
    turn = torch.randperm(int(shards.max()) + 1, generator=generator) // at_once
    mixed = torch.randperm(len(shards), generator=generator)
    return mixed[turn[shards[mixed]].argsort(stable=True)]
