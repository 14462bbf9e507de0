"""Clips with their packed objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sam_train.data.loading.collate import collate
from sam_train.data.loading.seeds import seed_of
from sam_train.structures import Batch
from sam_train.tensors import Tensors


@dataclass  # not frozen for the same reason as Batch
class ClipBatch(Tensors):
    """Clips of equal length; the same P objects are packed in every frame.

    Attributes:
        frames: Per frame, the images of all clips and the objects' masks on it, empty where an object is absent.
        known: Per frame and object, whether its mask is known.
        seed: Of what is drawn for the batch as a whole.
    """

    frames: tuple[Batch, ...]
    known: Bool[Tensor, "T P"]
    seed: int

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the first frames."""
        return self.frames[0].ids

    @property
    def num_objects(self) -> int:
        """P, over all clips."""
        return self.frames[0].num_objects

    @property
    def object_image(self) -> Int[Tensor, "P"]:
        """Index of each object's clip."""
        return self.frames[0].object_image

    def every_frame(self) -> Batch:
        """Return the frames of all clips as images without objects: all the first ones, then all the second ones."""
        return collate([frame.with_objects(slice(0, 0)) for frame in self.frames])


def collate_clips(clips: Sequence[ClipBatch]) -> ClipBatch:
    """Return one batch of several; all have the same number of frames."""
    frames = tuple(collate(frames) for frames in zip(*(clip.frames for clip in clips), strict=True))
    return ClipBatch(frames, torch.cat([clip.known for clip in clips], 1), seed_of(*(clip.seed for clip in clips)))
