"""Masks at the size of their images, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sam_train.inference.regions import Cleaning, clean_logits
from sam_train.preprocessing import Preprocessing

# Of logits at the original size, 128 MB; one object's at least. It bounds memory and changes no result.
PIXELS_AT_ONCE = 1 << 25


def full_masks(
    logits: Float[Tensor, "P M h w"], preprocessing: Preprocessing, size: tuple[int, int], cleaning: Cleaning
) -> Bool[Tensor, "P M H W"]:
    """Return masks at an image's size, a few objects at a time so that their logits never are all in memory."""
    restored = _restored(logits, preprocessing, size, cleaning)
    if not cleaning.non_overlapping:
        masks = [some > cleaning.threshold for some in restored]
        return torch.cat(masks) if masks else logits.new_zeros(0, logits.shape[1], *size, dtype=torch.bool)
    highest = torch.full((logits.shape[1], *size), -torch.inf, device=logits.device)
    owner = torch.full(highest.shape, -1, device=logits.device)
    for index, of_object in enumerate(one for some in restored for one in some):
        is_higher = of_object > highest
        highest, owner = torch.where(is_higher, of_object, highest), torch.where(is_higher, index, owner)
    owner = torch.where(highest > cleaning.threshold, owner, -1)
    return owner == torch.arange(len(logits), device=logits.device)[:, None, None, None]


def _restored(
    logits: Float[Tensor, "P M h w"], preprocessing: Preprocessing, size: tuple[int, int], cleaning: Cleaning
) -> Iterator[Float[Tensor, "p M H W"]]:
    at_once = max(PIXELS_AT_ONCE // (size[0] * size[1] * logits.shape[1]), 1)
    for some in logits.float().split(at_once):
        if len(some):
            yield preprocessing.restore_logits(clean_logits(some, cleaning), size)
