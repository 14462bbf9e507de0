"""Objects of one image, as they are written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.inference.found_masks import FoundMasks
from sam_train.inference.run_lengths import RunLengths
from sam_train.metrics.rle import overlaps

_COMPARED_AT_ONCE = 256  # masks: large images have tens of thousands, and each with each would fill the memory


@dataclass(frozen=True)
class Instances:
    """Objects of an image, best first.

    Attributes:
        masks: At the image's size.
        boxes: x0, y0, x1, y1 of the first and last pixels.
        scores: From 0 to 1 where the model's estimates are: of a mask's intersection over union with the truth, times
            the score of the box that it was found by, if that has one.
        categories: The name of each object, or None.
    """

    masks: RunLengths
    boxes: Int[Tensor, "n 4"]
    scores: Float[Tensor, "n"]
    categories: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.masks.size

    @classmethod
    def of(cls, found: FoundMasks) -> Instances:
        """Return masks of everything, which have no names."""
        return cls(found.masks, found.boxes, found.iou, (None,) * len(found))

    @classmethod
    def cat(cls, parts: Iterable[Instances], size: tuple[int, int]) -> Instances:
        """Return the objects of all parts of an image of this height and width, in order."""
        nothing = np.zeros(0, np.int64)
        none = cls(RunLengths(nothing, nothing, size), torch.zeros(0, 4, dtype=torch.long), torch.zeros(0), ())
        parts = [none, *parts]
        return cls(
            RunLengths.cat([part.masks for part in parts]),
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.scores for part in parts]),
            tuple(name for part in parts for name in part.categories),
        )

    def select(self, objects: Int[Tensor, "k"]) -> Instances:
        """Return some of the objects, in this order."""
        indices = objects.tolist()
        names = tuple(self.categories[index] for index in indices)
        return Instances(self.masks.select(objects.numpy()), self.boxes[objects], self.scores[objects], names)

    def best_first(self, least: float) -> Instances:
        """Return the objects that have pixels and a score of at least this, those of higher scores first."""
        order = self.scores.argsort(descending=True, stable=True)
        has_pixels = torch.from_numpy(self.masks.areas() > 0)
        return self.select(order[(has_pixels & (self.scores >= least))[order]])

    def distinct(self, threshold: float) -> Instances:
        """Return the objects of which no better one has a mask with a higher IoU than this, best first.

        What they are called does not count: an object has one name.
        """
        order, rles = self.scores.argsort(descending=True, stable=True).tolist(), [*self.masks.rles()]
        kept: list[int] = []
        for start in range(0, len(order), _COMPARED_AT_ONCE):
            some = order[start : start + _COMPARED_AT_ONCE]
            of_some = [rles[index] for index in some]
            before = overlaps(of_some, [rles[index] for index in kept]).max(axis=1, initial=0)
            among, new = overlaps(of_some, of_some), list[int]()
            for row in range(len(some)):
                if max(before[row], among[row, new].max(initial=0)) <= threshold:
                    new.append(row)
            kept += [some[row] for row in new]
        return self.select(torch.tensor(kept, dtype=torch.long))

    def label_image(self) -> Int[np.ndarray, "h w"]:
        """Return the number of the object at each pixel, from 1 in order; 0 where there is none.

        Where objects overlap, the smaller one is seen: parts before their wholes.
        """
        height, width = self.size
        number = len(self)
        labels = np.zeros(height * width, np.uint16 if number < 1 << 16 else np.uint32)
        for index in np.argsort(-self.masks.areas(), kind="stable"):
            for first, last in self.masks.select(np.array([index])).intervals().tolist():
                labels[first:last] = index + 1
        return labels.reshape(width, height).T
