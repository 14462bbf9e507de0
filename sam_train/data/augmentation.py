"""Random changes to a training image and its objects that leave the task the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from sam_train.structures import InputError, Preprocessing, Sample


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may stray from its original.

    Attributes:
        flip: Probability of a mirror image, left-right and, independently, upside down.
        zoom: Smallest and largest magnification. Above 1 a part of the image fills the input, below 1 the image lies
            somewhere in an empty frame.
        rotate: Largest rotation either way, in degrees.
        shear: Largest shear either way, in degrees.
        color: Largest relative change of brightness, contrast and saturation; hue turns by up to a tenth of it.
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
        """A variant of the sample at the size of the un-padded part of the input; a function of the seed."""
        has_image = len(sample.image) > 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            corner, window = self._window(sample.size)
            size = list(preprocessing.resized_size(window))
            labels = TF.crop(sample.labels, *corner, *window)
            # As a Mask it would be moved by half a pixel against the image: those are resized by NEAREST alone.
            parts: list[torch.Tensor] = [tv_tensors.Mask(TF.resize(labels, size, v2.InterpolationMode.NEAREST_EXACT))]
            if has_image:
                parts.append(tv_tensors.Image(TF.resize(TF.crop(sample.image, *corner, *window), size)))
            labels, *images = (part.as_subclass(torch.Tensor) for part in self._transform()(parts))
        return replace(sample, labels=labels, image=images[0] if has_image else sample.image.new_empty(0, *size))

    def _window(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Corner and size of a random window on an image, smaller or larger than it; beyond the edge it is black."""
        low, high = (torch.tensor(bound).log() for bound in self.zoom)
        zoom = (low + (high - low) * torch.rand(())).exp().item()
        corner, window = [], []
        for length in size:
            extent = max(round(length / zoom), 1)
            corner.append(int((length - extent) * torch.rand(()).item()))
            window.append(extent)
        return (corner[0], corner[1]), (window[0], window[1])

    def _transform(self) -> v2.Compose:
        steps: list[v2.Transform] = [v2.RandomHorizontalFlip(self.flip), v2.RandomVerticalFlip(self.flip)]
        if self.rotate or self.shear:
            shear = [-self.shear, self.shear, -self.shear, self.shear]
            steps.append(
                v2.RandomAffine([-self.rotate, self.rotate], shear=shear, interpolation=v2.InterpolationMode.BILINEAR)
            )
        if self.color:
            steps.append(v2.ColorJitter(self.color, self.color, self.color, self.color / 10))
        return v2.Compose(steps)
