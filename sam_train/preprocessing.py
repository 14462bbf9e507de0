"""From an image to the model's input and to the grid of its masks, and back.

Three frames are in use: the image as it came from disk, the square input of the model (side S), and coarser grids over
the same input, such as that of the logits (S/4). Sizes are (height, width), points x, y in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's input; part of the model, since its weights were trained with it.

    Attributes:
        image_size: Side S of the square input, in pixels.
        resize: ``longest_side`` keeps the aspect ratio, resizes in 8 bit and pads right and bottom with the mean color
            (SAM, ``ResizeLongestSide``); ``square`` stretches both sides to S in floating point (SAM 2,
            ``SAM2Transforms``).
        mean: Of the red, green and blue channel, on the 0..255 scale.
        std: Likewise.
    """

    image_size: int
    resize: Literal["longest_side", "square"] = "longest_side"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def resized_size(self, original_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the un-padded part of the input for an image of this height and width."""
        if self.resize == "square":
            return self.image_size, self.image_size
        height, width = original_size
        scale = self.image_size / max(height, width)
        # A sliver may round to nothing; the official code fails there, one row of pixels is what it means.
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def normalize(
        self, images: UInt8[Tensor, "B 3 S S"] | Float[Tensor, "B 3 S S"], valid_size: Int[Tensor, "B 2"]
    ) -> Float[Tensor, "B 3 S S"]:
        """Pixels of 0..255 to the encoder's input, zero in the padding, on the device the images are on."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images - mean) / std * valid_region(valid_size, images.shape[-1])[:, None]

    def scale_points(
        self, points: Float[Tensor, "*batch 2"] | Int[Tensor, "*batch 2"], original_size: tuple[int, int]
    ) -> Float[Tensor, "*batch 2"]:
        """x, y in pixels of an image of this height and width to pixels of the model's input."""
        (height, width), (resized_height, resized_width) = original_size, self.resized_size(original_size)
        dtype = torch.promote_types(points.dtype, torch.float32)  # pixels may be whole numbers
        return points * torch.tensor(
            [resized_width / width, resized_height / height], dtype=dtype, device=points.device
        )

    def restore_logits(
        self, logits: Float[Tensor, "P M h w"], original_size: tuple[int, int]
    ) -> Float[Tensor, "P M H W"]:
        """Logits over the input frame to an image of this height and width, as the official predictors do."""
        if self.resize == "longest_side":
            height, width = self.resized_size(original_size)
            logits = resize_logits(logits, (self.image_size, self.image_size))[..., :height, :width]
        return resize_logits(logits, original_size)


def valid_region(valid_size: Int[Tensor, "B 2"], side: int, stride: int = 1) -> Bool[Tensor, "B h w"]:
    """True where a cell of the (side/stride)² grid over the input holds pixels of the image, not of the padding."""
    starts = torch.arange(0, side, stride, device=valid_size.device)
    rows, columns = starts < valid_size[:, :1], starts < valid_size[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def downscale_masks(masks: Bool[Tensor, "P H W"], side: int) -> Bool[Tensor, "P side side"]:
    """Square masks on a coarser grid over the same frame: cells at least half covered.

    An object too small to cover half of any cell keeps every cell it touches, so that nothing vanishes.
    """
    stride = masks.shape[-1] // side
    if stride * side != masks.shape[-1]:
        raise ValueError(f"masks of side {masks.shape[-1]} cannot be reduced to {side}: not a whole factor")
    if stride == 1:
        return masks
    pixels = masks.view(torch.uint8)
    if stride * stride > 255:  # a cell's pixels could not be counted
        pixels = pixels.to(torch.int16)
    rows = torch.zeros_like(pixels[:, :side])
    for row in range(stride):
        rows += pixels[:, row::stride]
    covered = torch.zeros_like(rows[..., :side])
    for column in range(stride):
        covered += rows[..., column::stride]
    halves = covered >= (stride * stride + 1) // 2
    vanished = ~halves.flatten(1).any(dim=1)
    return torch.where(vanished[:, None, None], covered > 0, halves)


def resize_logits(logits: Float[Tensor, "P M h w"], size: tuple[int, int]) -> Float[Tensor, "P M H W"]:
    """Logits at another resolution of the same frame, bilinear as all official implementations do."""
    return logits if logits.shape[-2:] == size else F.interpolate(logits, size, mode="bilinear", align_corners=False)
