"""Masks as run lengths, a few hundred bytes each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Bool, Float

from sam_train.metrics.crops import box_around


class Rle(TypedDict):
    """A mask as COCO's compressed run lengths, column after column.

    Attributes:
        size: Height and width of the image.
        counts: The lengths as text.
    """

    size: list[int]
    counts: str


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> Rle:
    """Encode a mask."""
    rows, columns = box_around(mask)
    return encode_crop(mask[rows, columns], (rows.start, columns.start), mask.shape)


def decode_mask(rle: Rle) -> Bool[np.ndarray, "h w"]:
    """Decode a mask."""
    from pycocotools import mask as mask_utils

    runs: Any = rle  # text is as good as bytes there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own, of how it makes arrays
        return mask_utils.decode(runs).astype(bool)


def encode_crop(mask: Bool[np.ndarray, "r c"], corner: tuple[int, int], image_size: tuple[int, ...]) -> Rle:
    """Encode a part of a mask outside of which it is empty, such as a :class:`sam_train.metrics.crops.MaskCrop`'s.

    It costs what the part's columns cost, not what the image does, and gives the same lengths.

    Args:
        mask: The part.
        corner: Row and column of its upper left pixel.
        image_size: Height and width of the whole mask.
    """
    height, width = image_size
    columns = np.zeros((mask.shape[1], height), bool)
    columns[:, corner[0] : corner[0] + mask.shape[0]] = mask.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + corner[1] * height
    counts = np.diff(changes, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]  # the mask goes on to the last pixel
    return compress(counts.tolist(), (height, width))


def compress(lengths: list[int], size: tuple[int, int]) -> Rle:
    """Return run lengths, which begin with the background's, as compressed text.

    Args:
        lengths: Numbers of pixels, column after column.
        size: Height and width of the mask.
    """
    from pycocotools import mask as mask_utils

    runs: Any = {"size": [*size], "counts": lengths}  # which its stubs do not know
    return Rle(size=[*size], counts=mask_utils.frPyObjects(runs, *size)["counts"].decode())


def overlaps(rles: Sequence[Rle], others: Sequence[Rle]) -> Float[np.ndarray, "n m"]:
    """Return the IoU of each mask with each of the others."""
    from pycocotools import mask as mask_utils

    if not rles or not others:
        return np.zeros((len(rles), len(others)))
    columns: Any = [*others]
    rows: Any = [*rles]
    return np.asarray(mask_utils.iou(rows, columns, [0] * len(columns))).reshape(len(rows), len(columns))
