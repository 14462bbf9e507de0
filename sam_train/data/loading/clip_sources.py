"""Clips and images that train together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch.utils.data import Dataset

from sam_train.data.loading.clip_batch import ClipBatch
from sam_train.data.loading.clip_dataset import TrainClips
from sam_train.data.loading.dataset import EpochIndex, TrainDataset
from sam_train.data.loading.seeds import seed_of
from sam_train.structures import Batch


class TrainSources(Dataset[ClipBatch]):
    """Clips and images of several sources, one after the other; an image is a clip of one frame.

    Args:
        parts: The sources.
        seed: Seed of everything random.
    """

    def __init__(self, parts: Sequence[TrainClips | TrainDataset], seed: int) -> None:
        self.parts = tuple(parts)
        self.starts = (0, *accumulate(len(part) for part in parts))
        self.seed = seed

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, key: EpochIndex) -> ClipBatch:
        epoch, index = key
        part = bisect_right(self.starts, index) - 1
        found = self.parts[part][epoch, index - self.starts[part]]
        return found if isinstance(found, ClipBatch) else still(found, seed_of("still", *found.ids, epoch, self.seed))


def still(batch: Batch, seed: int) -> ClipBatch:
    """Return an image with its objects as a clip of one frame.

    Args:
        batch: The image.
        seed: Of what is drawn for it as a whole: the kind of prompt.
    """
    return ClipBatch((batch,), torch.ones(1, batch.num_objects, dtype=torch.bool), seed)
