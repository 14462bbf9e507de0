"""Clips whose objects are outlines in a file beside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from sam_train.data.sources.coco.outlines import OutlineError, Outlines
from sam_train.data.sources.video.clips import ClipSet
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample


class DrawnClips(ClipSet):
    """Clips that give each frame's picture and its objects' outlines."""

    @abstractmethod
    def picture(self, clip: int, frame: int) -> UInt8[Tensor, "3 h w"]:
        """Return a frame's picture."""

    @abstractmethod
    def objects(self, clip: int, frame: int) -> tuple[Outlines, dict[int, int]]:
        """Return outlines, and the number of each object that may be on the frame to its row there."""

    @abstractmethod
    def annotations(self, clip: int) -> Path:
        """Return the file that the outlines are from."""

    def category(self, clip: int, value: int) -> str | None:
        """Return the category of an object, where the data say one."""
        return None

    def read_frame(self, clip: int, frame: int, with_image: bool = True) -> Sample:
        """See :meth:`ClipSet.read_frame`."""
        content = self.clips[clip]
        image = self.picture(clip, frame)
        size = image.shape[1], image.shape[2]
        is_known = frame in content.annotated
        packed = pack_masks(self._masks(clip, frame, size) if is_known else (), size)
        categories = [self.category(clip, value) for value in packed.value.tolist()]
        return Sample(
            f"{content.name}/{content.frames[frame]}",
            image if with_image else image[:0],
            *packed,
            category=tuple(str(one) for one in categories) if self.categories else None,
            group=self.group_of(clip),
        )

    def _masks(self, clip: int, frame: int, size: tuple[int, int]) -> Iterator[tuple[int, Bool[Tensor, "h w"]]]:
        outlines, rows = self.objects(clip, frame)
        for value, row in rows.items():
            try:
                mask = outlines.mask(row, size)
            except OutlineError as error:
                content = self.clips[clip]
                found = f"clip {content.name}, frame {content.frames[frame]}, object {value}: {error.found}"
                raise FileError(Problem(error.kind, self.annotations(clip), found, error.remedy)) from error
            if mask.any():
                yield value, torch.from_numpy(mask)
