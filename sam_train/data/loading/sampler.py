"""Order of the training images: the same stream on one process or many, from the start or from the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.data.loading.dataset import EpochIndex
from sam_train.data.loading.seeds import generator_of
from sam_train.data.sources.shares import Shares


class Shuffle(Protocol):
    """Returns an order of images."""

    def __call__(self, *, generator: torch.Generator) -> Int[Tensor, "n"]: ...  # noqa: D102


class BatchTurns:
    """Order of an epoch of several sources in which every batch is of one source.

    Without weights, an epoch shows every image once. With weights, these are the sources' shares of the batches, and an
    epoch ends as soon as one source was shown whole. The last batch of a source is filled up from its start.

    Args:
        sizes: Per source, its number of images, which come one source after the other.
        orders: Per source, its order of an epoch.
        at_once: Number of images in the batches of all processes together.
        weights: Per source, its share beside those of the others; empty for none.
    """

    def __init__(self, sizes: Sequence[int], orders: Sequence[Shuffle], at_once: int, weights: Sequence[float]) -> None:
        self.starts = (0, *accumulate(sizes))
        self.orders = orders
        self.at_once = at_once
        self.shares = Shares([-(-size // at_once) for size in sizes], weights)

    @property
    def num_images(self) -> int:
        """Number of images of an epoch."""
        return self.shares.num_turns * self.at_once

    def __call__(self, *, generator: torch.Generator) -> Int[Tensor, "n"]:
        """Return the order of an epoch."""
        turns = self.shares.turns(generator)
        order = torch.empty(len(turns), self.at_once, dtype=torch.long)
        for source, (start, shuffle) in enumerate(zip(self.starts, self.orders, strict=False)):
            own = turns == source
            images = shuffle(generator=generator) + start
            wanted = int(own.sum()) * self.at_once
            order[own] = images.repeat(-(-wanted // len(images)))[:wanted].view(-1, self.at_once)
        return order.flatten()


class TrainBatches:
    """Batches of (epoch, index) of one process, epoch after epoch in new orders.

    Every process cuts its share out of the same global batches, so w processes with batches of b see what one process
    with batches of w·b sees. The last batch of an epoch is filled up from the epoch's start.

    Args:
        num_images: Number of images.
        batch_size: Number of images in a batch of one process.
        seed: Seed of everything random.
        rank: Rank of this process.
        world_size: Number of processes.
        shuffle: Returns the order of an epoch; None for any order.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        shuffle: Shuffle | None = None,
    ) -> None:
        self.num_images = num_images
        self.shuffle = shuffle or partial(torch.randperm, num_images)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = 0  # batches already seen, over all epochs

    def __len__(self) -> int:
        return -(-self.num_images // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        """Yield as many batches as an epoch has, from ``start`` on: into the next epoch where one was left early."""
        order: Int[Tensor, "n"] | None = None  # not a list: of ten million numbers that takes 400 MB
        for count in range(self.start, self.start + len(self)):
            epoch, number = divmod(count, len(self))
            if order is None or number == 0:
                order = self.shuffle(generator=generator_of("order", epoch, self.seed))
            begin = (number * self.world_size + self.rank) * self.batch_size
            yield [(epoch, int(order[(begin + offset) % self.num_images])) for offset in range(self.batch_size)]
