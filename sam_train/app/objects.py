"""Objects as the page and the server exchange them: a name and a mask as run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sam_train.errors import InputError
from sam_train.inference.instances import Instances
from sam_train.inference.run_lengths import RunLengths

UNNAMED = "object"


@dataclass(frozen=True)
class LabeledObject:
    """An object of an image, as a person has accepted it.

    Attributes:
        lengths: Its mask: numbers of pixels, column after column, beginning with those beside it.
        category: What it is.
        clicks: How many clicks and boxes it took; 0 of an object that came with the data.
        model: Number of the tuned model that answered them, 0 for the untuned one.
    """

    lengths: Sequence[int]
    category: str = UNNAMED
    clicks: int = 0
    model: int = 0


def lengths_of(mask: Bool[Tensor, "h w"]) -> list[int]:
    """Return a mask as run lengths, column after column."""
    return next(RunLengths.of(mask[None]).lengths())


def instances_of(objects: Sequence[LabeledObject], size: tuple[int, int]) -> Instances:
    """Return objects as they are written down, in order; those without a pixel are left out.

    Args:
        objects: The objects.
        size: Height and width of the image.

    Raises:
        InputError: If a mask has not the image's size.
    """
    height, width = size
    runs = [_run_lengths(one.lengths, size) for one in objects]
    parts = []
    for one, run in zip(objects, runs, strict=True):
        if len(run.changes) and run.areas()[0]:
            box = torch.tensor([_box(run.masks()[0].numpy())])
            parts.append(Instances(run, box, torch.ones(1), (one.category.strip() or UNNAMED,)))
    return Instances.cat(parts, (height, width))


def _run_lengths(lengths: Sequence[int], size: tuple[int, int]) -> RunLengths:
    ends = np.cumsum(np.asarray(lengths, np.int64))
    if not len(ends) or min(lengths) < 0 or ends[-1] != size[0] * size[1]:
        pixels = int(ends[-1]) if len(ends) else 0
        raise InputError(f"a mask of {pixels} pixels for an image of {size[0]} x {size[1]}; load the page anew")
    changes, counts = np.unique(ends[:-1], return_counts=True)
    changes = changes[(counts % 2 == 1) & (changes < ends[-1])]  # runs of no pixel change nothing
    return RunLengths(changes, np.array([len(changes)]), size)


def _box(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    rows: Int[np.ndarray, "r"] = np.flatnonzero(mask.any(axis=1))
    columns: Int[np.ndarray, "c"] = np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]


def objects_of(masks: Iterable[tuple[str | None, Bool[Tensor, "h w"]]]) -> list[LabeledObject]:
    """Return the objects that came with the data."""
    return [LabeledObject(lengths_of(mask), name or UNNAMED) for name, mask in masks]
