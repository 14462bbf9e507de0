"""Boxes and points that came with the data, for the objects they are about.

They are pixels of the image, as the data have them: of a detector, of people, or COCO's keypoints. A prompt of a file
names no object. Each object takes the box that overlaps it most, by an IoU of at least a half with the box around it,
and the points of which most lie on it; so what an object is given does not depend on which others are read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_iou, masks_to_boxes

from sam_train.data.sources.prompt_files import GivenObject, PromptFile
from sam_train.data.sources.safe_walk import inside
from sam_train.structures import PointLabel, Prompts, Sample

LEAST_IOU = 0.5  # as COCO counts a detection as one of an object


@dataclass(frozen=True)
class GivenPrompts:
    """Files of boxes and points.

    Attributes:
        boxes: Boxes by image; None where there are none.
        points: Points by image.
    """

    boxes: PromptFile | None = None
    points: PromptFile | None = None

    def require_known(self, names: Collection[str], number: int) -> None:
        """Refuse files that are of none of these images.

        Args:
            names: Of the images.
            number: Of the images, of which one may have several names.

        Raises:
            InputError: If one is.
        """
        for file in (self.boxes, self.points):
            if file is not None:
                file.require_known(names, number)

    def add(self, sample: Sample, *names: str) -> Sample:
        """Return a sample with what the files give its objects, in the place of what it has of the same kind.

        Args:
            sample: An image and objects of it.
            names: What else the image may be called in the files.
        """
        if self.boxes is None and self.points is None:
            return sample
        boxes, points = (self._of(file, sample.id, names) for file in (self.boxes, self.points))
        found = [
            GivenObject(box.box if box else None, clicks.points if clicks else (), clicks.labels if clicks else ())
            for box, clicks in zip(boxes_of(sample, boxes), _points_of(sample, points), strict=True)
        ]
        prompts = to_prompts(found)
        if sample.prompts is not None:  # what no file replaces stays
            kept = _without(sample.prompts, boxes=self.boxes is not None, points=self.points is not None)
            prompts = kept if prompts is None else kept.with_points(prompts.points, prompts.labels)
        return replace(sample, prompts=prompts)

    @staticmethod
    def _of(file: PromptFile | None, name: str, names: Sequence[str]) -> list[GivenObject]:
        return next((found for one in (name, *names) if file and (found := file.of(one))), [])


def read_given(root: Path, boxes: str | None, points: str | None) -> GivenPrompts:
    """Read the files of prompts that settings name, below a folder.

    Raises:
        InputError: If one leads out of the folder or is no such file.
    """
    return GivenPrompts(
        None if boxes is None else PromptFile(inside(root, str(boxes), "data.boxes"), "boxes"),
        None if points is None else PromptFile(inside(root, str(points), "data.points"), "points"),
    )


def to_prompts(objects: Sequence[GivenObject]) -> Prompts | None:
    """Return the prompts of objects, a box first, then points; None where no object has any."""
    width = max((2 * (one.box is not None) + len(one.points) for one in objects), default=0)
    if not width:
        return None
    points = torch.zeros(len(objects), width, 2)
    labels = torch.full((len(objects), width), PointLabel.EMPTY.value)
    for row, one in enumerate(objects):
        corners = [one.box[:2], one.box[2:]] if one.box else []
        kinds = [PointLabel.BOX_TOP_LEFT.value, PointLabel.BOX_BOTTOM_RIGHT.value] if one.box else []
        if places := [*corners, *one.points]:
            points[row, : len(places)] = torch.tensor(places, dtype=torch.float32)
            labels[row, : len(places)] = torch.tensor([*kinds, *one.labels])
    return Prompts(points, labels)


def _without(prompts: Prompts, boxes: bool, points: bool) -> Prompts:
    is_box = prompts.labels >= PointLabel.BOX_TOP_LEFT.value
    gone = (is_box & boxes) | (~is_box & points)
    return replace(prompts, labels=prompts.labels.masked_fill(gone, PointLabel.EMPTY.value))


def boxes_of(sample: Sample, given: Sequence[GivenObject], ends_inside: bool = False) -> list[GivenObject | None]:
    """Return for each object the box that overlaps it most; None where none does by enough.

    Args:
        sample: The objects.
        given: Boxes of their image.
        ends_inside: Whether boxes end with their last pixel, not after it.
    """
    boxes = [one for one in given if one.box is not None]
    if not boxes or not len(sample.value):
        return [None] * len(sample.value)
    edges = torch.tensor([one.box for one in boxes]) + torch.tensor([0, 0, ends_inside, ends_inside])
    overlap = box_iou(_tight(sample), edges)
    best = overlap.max(dim=1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [boxes[index] if iou >= LEAST_IOU else None for index, iou in pairs]


def _tight(sample: Sample) -> Float[Tensor, "P 4"]:
    """Return the edges of the boxes around the objects; of an object without a pixel an empty box."""
    boxes = torch.zeros(len(sample.value), 4)
    for row, mask in enumerate(sample.each_mask()):
        if mask.any():
            boxes[row] = masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1])
    return boxes


def _points_of(sample: Sample, given: Sequence[GivenObject]) -> list[GivenObject | None]:
    """Return for each object the points of which most that say so lie on it; None where there are none."""
    clicks = [one for one in given if one.points]
    if not clicks:
        return [None] * len(sample.value)
    found: list[GivenObject | None] = []
    for mask in sample.each_mask():
        shares = [_share_on(mask, one) for one in clicks]
        best = max(shares)
        found.append(clicks[shares.index(best)] if best > 0.5 else None)
    return found


def _share_on(mask: Bool[Tensor, "h w"], given: GivenObject) -> float:
    """Return the share of the points that say that they are on the object, and are."""
    height, width = mask.shape
    places = [point for point, label in zip(given.points, given.labels, strict=True) if label == 1]
    inside = [(int(x), int(y)) for x, y in places if 0 <= x < width and 0 <= y < height]
    return sum(bool(mask[y, x]) for x, y in inside) / max(len(places), 1)
