"""Objects of one image, as they are written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.inference.found_masks import FoundMasks
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.run_lengths import RunLengths
from sam_train.metrics.rle import overlaps


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
        order, rles, kept = self.scores.argsort(descending=True, stable=True).tolist(), self.masks.rles(), list[int]()
        reached = _Reached(self.boxes.numpy())
        for index in order:
            near = reached.by(index)
            if overlaps([rles[index]], [rles[other] for other in near]).max(initial=0) <= threshold:
                kept.append(index)
                reached.add(index)
        return self.select(torch.tensor(kept, dtype=torch.long))

    def disjoint(self) -> Instances:
        """Return the objects without the pixels that a better one has, best first; what has none left is left out."""
        order = self.scores.argsort(descending=True, stable=True).tolist()
        reached, kept, runs, boxes = _Reached(self.boxes.numpy()), list[int](), list[RunLengths](), list[Tensor]()
        for index in order:
            x0, y0, x1, y1 = self.boxes[index].tolist()
            window = (x0, y0, x1 + 1, y1 + 1)
            mask = self.in_window(index, window)
            for better in reached.by(index):
                mask &= ~self.in_window(better, window)
            reached.add(index)
            if mask.any():
                own = torch.from_numpy(mask)[None]
                kept.append(index)
                runs.append(RunLengths.of(own, self.size, (y0, x0)))
                boxes.append(mask_boxes(own) + torch.tensor([x0, y0, x0, y0]))
        found = self.select(torch.tensor(kept, dtype=torch.long))
        return replace(found, masks=RunLengths.cat(runs), boxes=torch.cat(boxes)) if kept else found

    def in_window(self, index: int, window: tuple[int, int, int, int]) -> Bool[np.ndarray, "a b"]:
        """Return what a window of the image shows of an object.

        Args:
            index: Of the object.
            window: x0, y0, x1, y1; x1 and y1 are the first pixels beyond it.
        """
        left, top, right, bottom = window
        x0, y0, x1, y1 = self.boxes[index].tolist()
        shown = np.zeros((bottom - top, right - left), bool)
        x0, x1 = max(x0, left), min(x1, right - 1)
        if x0 <= x1 and y0 < bottom and y1 >= top:
            part = self.masks.in_box(index, (x0, y0, x1, y1))[max(top - y0, 0) : bottom - y0]
            row = max(y0 - top, 0)
            shown[row : row + len(part), x0 - left : x1 + 1 - left] = part
        return shown

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


class _Reached:
    """Which of the boxes added so far a box has pixels in common with, without a look at each of all of them.

    Large images have tens of thousands of objects.

    Args:
        boxes: x0, y0, x1, y1 of first and last pixels.
    """

    def __init__(self, boxes: Int[np.ndarray, "n 4"]) -> None:
        self.boxes = boxes
        self.order = np.argsort(boxes[:, 0], kind="stable")
        self.begins = boxes[self.order, 0]
        self.widest = (boxes[:, 2] - boxes[:, 0]).max(initial=0)
        self.is_added = np.zeros(len(boxes), bool)

    def add(self, index: int) -> None:
        """Add a box."""
        self.is_added[index] = True

    def by(self, index: int) -> list[int]:
        """Return the indices of the added boxes that a box reaches."""
        x0, y0, x1, y1 = self.boxes[index]
        first, last = np.searchsorted(self.begins, [x0 - self.widest, x1 + 1])
        near = self.order[first:last]
        near = near[self.is_added[near]]
        u1, v0, v1 = self.boxes[near, 2], self.boxes[near, 1], self.boxes[near, 3]
        return near[(u1 >= x0) & (v0 <= y1) & (v1 >= y0)].tolist()
