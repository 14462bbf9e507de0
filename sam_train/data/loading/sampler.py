"""Order of the training images: the same stream on one process or many, from the start or from the middle."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sam_train.data.loading.dataset import EpochIndex
from sam_train.data.loading.seeds import generator_of


class TrainBatches:
    """Batches of (epoch, index) of one process, epoch after epoch in new orders.

    Every process cuts its share out of the same global batches, so w processes with batches of b see what one process
    with batches of w·b sees. The last batch of an epoch is filled up from the epoch's start.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = 0  # batches already seen, over all epochs

    def __len__(self) -> int:
        return -(-self.num_images // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        """Yield as many batches as an epoch has, from ``start`` on: into the next epoch where one was left early."""
        order: list[int] = []
        for count in range(self.start, self.start + len(self)):
            epoch, number = divmod(count, len(self))
            if not order or number == 0:
                order = torch.randperm(self.num_images, generator=generator_of("order", epoch, self.seed)).tolist()
            begin = (number * self.world_size + self.rank) * self.batch_size
            yield [(epoch, order[(begin + offset) % self.num_images]) for offset in range(self.batch_size)]
