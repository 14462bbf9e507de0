"""How much of an epoch each of several sources has."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor


class Shares:
    """The turns of several sources in an epoch, which ends as soon as one source was shown whole.

    Args:
        sizes: Per source, how often it can have its turn.
        weights: Per source, its share beside those of the others; None to show each of them whole.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None = None) -> None:
        numbers = [Fraction(number) for number in weights or sizes]
        self.shares = [number / sum(numbers) for number in numbers]
        self.num_turns = min(int(size / share) for size, share in zip(sizes, self.shares, strict=True))

    def turns(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """Return the numbers of the sources in the order of their turns in an epoch.

        Of every source an epoch has its share of turns, rounded up or down at random, so that shares are exact on
        average (systematic sampling).
        """
        offset = Fraction(torch.rand((), dtype=torch.float64, generator=generator).item())
        ends = [int(self.num_turns * share + offset) for share in accumulate(self.shares)]
        counts = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        turns = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return turns[torch.randperm(len(turns), generator=generator)]
