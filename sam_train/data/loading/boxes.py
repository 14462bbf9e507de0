"""Boxes of all objects of an image, from which a head learns to find them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.transforms.v2 import functional as TF

from sam_train.centers import ObjectBoxes
from sam_train.data.loading.crowds import with_crowds_ignored
from sam_train.data.loading.views import Views
from sam_train.data.sources.base import ImageSet
from sam_train.errors import InputError
from sam_train.label_planes import find_boxes
from sam_train.structures import Sample

UNNAMED = "object"
"""The one category of data that have none."""


def categories_of(images: ImageSet) -> tuple[str, ...]:
    """Return the names of an image set's categories; one where objects have no names, or none is known beforehand."""
    return tuple(images.categories) or (UNNAMED,)


def boxes_in(views: Views, index: int, view: int) -> ObjectBoxes:
    """Return the boxes of all objects of an image, as a view shows them; objects out of sight are left out.

    Raises:
        InputError: If an object has none of the categories' names.
    """
    sample = with_crowds_ignored(views.images.read(index, with_image=False))
    return _boxes(views.vary(sample, view), categories_of(views.images), views.preprocessing.image_size)


def _boxes(sample: Sample, categories: Sequence[str], side: int) -> ObjectBoxes:
    boxes = find_boxes(sample.labels, sample.plane, sample.value)
    seen = (boxes[:, 2] > 0).nonzero()[:, 0]
    numbers = torch.zeros(len(seen), dtype=torch.long)
    if tuple(categories) != (UNNAMED,):
        numbers = torch.tensor([_number(sample, row, categories) for row in seen.tolist()], dtype=torch.long)
    height, width = sample.size
    ignore = None
    if sample.ignore is not None and sample.ignore.any():
        ignore = TF.pad(sample.ignore[None], [0, 0, side - width, side - height])
    return ObjectBoxes(boxes[seen].float(), torch.zeros(len(seen), dtype=torch.long), numbers, ignore)


def _number(sample: Sample, row: int, categories: Sequence[str]) -> int:
    name = sample.category[row] if sample.category else None
    if name not in categories:
        found = "has no name" if name is None else f"is called {name}"
        raise InputError(
            f"prompter=center: an object of {sample.id} {found}, which is none of the categories of the training data "
            f"({', '.join(categories[:10])}); name all objects by these, or leave out that source (data.parts)"
        )
    return categories.index(name)
