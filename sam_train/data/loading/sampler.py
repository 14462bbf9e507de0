"""Order of the training images: the same stream on one process or many, from the start or from the middle."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.data.loading.dataset import EpochIndex
from sam_train.data.loading.seeds import generator_of


class Shuffle(Protocol):
    """Returns an order of images."""

    def __call__(self, *, generator: torch.Generator) -> Int[Tensor, "n"]: ...  # noqa: D102


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
