"""Masks at the size of their images, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.point_grids import Crop
from sam_train.inference.regions import Cleaning, clean_logits
from sam_train.inference.run_lengths import RunLengths
from sam_train.preprocessing import Preprocessing

# Of logits at the original size, 128 MB; one object's at least. It bounds memory and changes no result.
PIXELS_AT_ONCE = 1 << 25


def full_masks(
    logits: Float[Tensor, "P M h w"], preprocessing: Preprocessing, size: tuple[int, int], cleaning: Cleaning
) -> Bool[Tensor, "P M H W"]:
    """Return masks at an image's size; their logits never are all in memory."""
    masks = [*each_full_masks(logits, preprocessing, size, cleaning)]
    return torch.cat(masks) if masks else logits.new_zeros(0, logits.shape[1], *size, dtype=torch.bool)


def each_full_masks(
    logits: Float[Tensor, "P M h w"], preprocessing: Preprocessing, size: tuple[int, int], cleaning: Cleaning
) -> Iterator[Bool[Tensor, "p M H W"]]:
    """Yield the same a few objects at a time; that objects do not overlap is so for all of them."""
    restored = _restored(logits, preprocessing, size, cleaning)
    if not cleaning.non_overlapping:
        yield from (some > cleaning.threshold for some in restored)
        return
    highest = torch.full((logits.shape[1], *size), -torch.inf, device=logits.device)
    owner = torch.full(highest.shape, -1, device=logits.device)
    for index, of_object in enumerate(one for some in restored for one in some):
        is_higher = of_object > highest
        highest, owner = torch.where(is_higher, of_object, highest), torch.where(is_higher, index, owner)
    owner = torch.where(highest > cleaning.threshold, owner, -1)
    for some in torch.arange(len(logits), device=logits.device).split(_at_once(logits, size)):
        yield owner == some[:, None, None, None]


def full_runs(
    logits: Float[Tensor, "P 1 h w"],
    preprocessing: Preprocessing,
    crop: Crop,
    size: tuple[int, int],
    cleaning: Cleaning,
) -> tuple[RunLengths, Int[Tensor, "P 4"]]:
    """Return the masks that a crop of an image shows as run lengths of the image, and the boxes around them.

    Boxes are x0, y0, x1, y1 of first and last pixels.

    Args:
        logits: Of the masks.
        preprocessing: The model's.
        crop: Which part of the image was encoded.
        size: Height and width of the image.
        cleaning: How masks are tidied.
    """
    x0, y0, *_ = crop.box
    runs = [RunLengths.of(torch.zeros(0, *size, dtype=torch.bool))]
    boxes = [torch.zeros(0, 4, dtype=torch.long)]
    for masks in each_full_masks(logits, preprocessing, crop.size, cleaning):
        runs.append(RunLengths.of(masks[:, 0], size, (y0, x0)))
        boxes.append(mask_boxes(masks[:, 0]).cpu() + torch.tensor([x0, y0, x0, y0]))
    return RunLengths.cat(runs), torch.cat(boxes)


def _restored(
    logits: Float[Tensor, "P M h w"], preprocessing: Preprocessing, size: tuple[int, int], cleaning: Cleaning
) -> Iterator[Float[Tensor, "p M H W"]]:
    for some in logits.float().split(_at_once(logits, size)):
        if len(some):
            yield preprocessing.restore_logits(clean_logits(some, cleaning), size)


def _at_once(logits: Float[Tensor, "P M h w"], size: tuple[int, int]) -> int:
    return max(PIXELS_AT_ONCE // (size[0] * size[1] * logits.shape[1]), 1)
