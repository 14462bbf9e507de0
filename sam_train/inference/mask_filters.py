"""Which of many mask candidates are worth keeping: stable ones that no better one covers."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import nms

_BLOCK = 255  # rows whose pixels a byte can count
_NEAR = 20.0  # pixels from the edge of a crop (segment_anything/utils/amg.py)


def above(logits: Float[Tensor, "n h w"], threshold: float) -> Bool[Tensor, "n h w"]:
    """Return the masks of logits."""
    if logits.device.type != "cpu" or logits.dtype == torch.bfloat16:
        return logits > threshold
    return torch.from_numpy(np.greater(logits.numpy(), threshold))  # three times as fast as torch's


def count_pixels(masks: Bool[Tensor, "n h w"]) -> Int[Tensor, "n"]:
    """Return the number of pixels of each mask."""
    pixels = masks.view(torch.uint8)  # summing bytes as bytes is 50 times as fast as into whole numbers
    return sum(
        (block.sum(dim=1, dtype=torch.uint8).sum(dim=1) for block in pixels.split(_BLOCK, dim=1)),
        start=torch.zeros(len(masks), dtype=torch.long, device=masks.device),
    )


def stability_scores(logits: Float[Tensor, "n h w"], threshold: float, offset: float) -> Float[Tensor, "n"]:
    """Return the IoU of each mask with itself at a threshold moved up and moved down; nan where both are empty."""
    strict = count_pixels(above(logits, threshold + offset))
    return strict / count_pixels(above(logits, threshold - offset))


def mask_boxes(masks: Bool[Tensor, "n h w"]) -> Int[Tensor, "n 4"]:
    """Return x0, y0, x1, y1 of each mask's first and last pixels; zeros for an empty mask."""
    pixels = masks.view(torch.uint8)
    ends = []
    for dim in (1, 2):  # columns, then rows
        inside = pixels.amax(dim=dim)
        ends += [inside.argmax(dim=1), inside.shape[1] - 1 - inside.flip(1).argmax(dim=1)]
    is_empty = pixels.amax(dim=1).amax(dim=1) == 0
    x0, x1, y0, y1 = ends
    return torch.stack([x0, y0, x1, y1], dim=1).masked_fill(is_empty[:, None], 0)


def is_cut_off(boxes: Int[Tensor, "n 4"], crop: tuple[int, int, int, int], size: tuple[int, int]) -> Bool[Tensor, "n"]:
    """Return which boxes come near an edge of the crop that is no edge of the image: their objects may go on there.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the image.
        crop: Likewise, the crop that they were found in.
        size: Height and width of the image.
    """
    height, width = size
    edges, image = boxes.new_tensor(crop), boxes.new_tensor([0, 0, width, height])
    near_crop, near_image = (boxes - edges).abs() <= _NEAR, (boxes - image).abs() <= _NEAR
    return (near_crop & ~near_image).any(dim=1)


def distinct(boxes: Int[Tensor, "n 4"], scores: Float[Tensor, "n"], threshold: float) -> Int[Tensor, "k"]:
    """Return the indices of boxes that no box of a higher score overlaps by more than an IoU, best first."""
    return nms(boxes.float(), scores.float(), threshold)
