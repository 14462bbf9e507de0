"""Random changes to a training image and its objects that leave the task the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from sam_train.data.loading.given_prompts import corners, from_corners
from sam_train.data.loading.transforms import resize_labels
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Sample


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may stray from its original.

    Attributes:
        flip: Probability of mirroring left to right and, independently, upside down.
        zoom: Smallest and largest magnification. Above 1 a part of the image fills the input, below 1 the image lies
            somewhere in an empty frame.
        rotate: Largest rotation either way, in degrees.
        shear: Largest shear either way, in degrees.
        color: Largest relative change of brightness, contrast and saturation. Hues stay: changing them takes longer
            than everything else that is done to an image.
    """

    flip: float = 0.5
    zoom: tuple[float, float] = (0.8, 1.6)
    rotate: float = 15.0
    shear: float = 0.0
    color: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise InputError(f"augmentation.zoom={list(self.zoom)}: smallest and largest magnification, both above 0")
        if not 0 <= self.flip <= 1 or not 0 <= self.color <= 1:
            raise InputError(f"augmentation.flip={self.flip}, color={self.color}: both lie between 0 and 1")

    def __call__(self, sample: Sample, preprocessing: Preprocessing, seed: int) -> Sample:
        """Return a variant of the sample at the size of the un-padded part of the input; a function of the seed."""
        has_image = len(sample.image) > 0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not the generators of GPUs, which would keep it
            corner, window = self._window(sample.size)
            size = preprocessing.resized_size(window)
            parts: list[Tensor] = [tv_tensors.Mask(_places(size))]
            if has_image:
                parts.append(tv_tensors.Image(TF.resize(TF.crop(sample.image, *corner, *window), list(size))))
            if sample.prompts:
                points = preprocessing.scale_points(corners(sample.prompts) - torch.tensor(corner[::-1]), window)
                parts.append(tv_tensors.KeyPoints(points, canvas_size=size))  # pyright: ignore[reportCallIssue]
            places, *others = (part.as_subclass(Tensor) for part in self._transform(parts))

        def seen(planes: Shaped[Tensor, "L H W"]) -> Shaped[Tensor, "L h w"]:
            """Return the values at the new places, nothing beyond the image."""
            resized = resize_labels(TF.crop(planes, *corner, *window), size)
            return F.pad(resized.flatten(1), (1, 0))[:, places[0].long()]

        return replace(
            sample,
            labels=seen(sample.labels),
            image=others[0] if has_image else sample.image.new_empty(0, *size),
            ignore=None if sample.ignore is None else seen(sample.ignore[None])[0],
            prompts=sample.prompts and from_corners(sample.prompts, others[-1], size),
        )

    def _window(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return corner and size of a random window, smaller or larger than the image; beyond the image it is black."""
        low, high = (torch.tensor(bound).log() for bound in self.zoom)
        zoom = (low + (high - low) * torch.rand(())).exp().item()
        corner, window = [], []
        for length in size:
            extent = max(round(length / zoom), 1)
            corner.append(int((length - extent) * torch.rand(()).item()))
            window.append(extent)
        return (corner[0], corner[1]), (window[0], window[1])

    def _transform(self, parts: list[Tensor]) -> list[Tensor]:
        """Mirror, turn, shear and recolor images, masks and points alike."""
        parts = v2.Compose([v2.RandomHorizontalFlip(self.flip), v2.RandomVerticalFlip(self.flip)])(parts)
        if self.rotate or self.shear:
            shear = [-self.shear, self.shear, -self.shear, self.shear]
            fill = {tv_tensors.Mask: None, "others": 0}  # a mask is 0 outside in any case, and None is half the work
            rotate, bilinear = [-self.rotate, self.rotate], v2.InterpolationMode.BILINEAR
            affine = v2.RandomAffine(rotate, shear=shear, interpolation=bilinear, fill=fill)
            # Points count from the middle of the first pixel, but torchvision turns them as if from its corner.
            parts = _shift(affine(_shift(parts, 0.5)), -0.5)
        return v2.ColorJitter(self.color, self.color, self.color)(parts) if self.color else parts


def _shift(parts: list[Tensor], distance: float) -> list[Tensor]:
    """Move the points among the parts, right and down."""
    return [
        tv_tensors.KeyPoints(part + distance, canvas_size=part.canvas_size)  # pyright: ignore[reportCallIssue]
        if isinstance(part, tv_tensors.KeyPoints)
        else part
        for part in parts
    ]


def _places(size: Sequence[int]) -> Float[Tensor, "1 h w"]:
    """Return the number of each pixel, counted from 1: one plane to move in place of any number of label planes."""
    num_pixels = size[0] * size[1]
    assert num_pixels <= 2**24, "floating point counts no further"
    return torch.arange(1, num_pixels + 1, dtype=torch.float32).view(1, *size)
