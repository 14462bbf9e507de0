"""Procedural images with exact masks, made when they are read."""

from __future__ import annotations

import difflib
import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, overload

import numpy as np
import torch
from jaxtyping import Int, UInt8

from sam_train.data.sources.base import Choose, DataSource, ImageSet, Split, all_objects
from sam_train.data.world import microscopy, plain, ultrasound
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.mixture import world
from sam_train.errors import InputError
from sam_train.structures import Sample

Painter = Callable[[Canvas, np.random.Generator], UInt8[np.ndarray, "3 h w"]]

DOMAINS: Mapping[str, Painter] = MappingProxyType(
    {
        "cells": microscopy.cells,
        "tissue": microscopy.tissue,
        "ultrasound": ultrasound.ultrasound,
        "texture": plain.texture,
        "shapes": plain.shapes,
        "world": world,
    }
)
"""Painter of each domain."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_SIZES = 64, 1024  # below, objects are a few pixels; above, noise fields would have to be larger
_LEAST_AREA = 16 / 256**2  # 16 pixels of a 256 px image


@dataclass(frozen=True)
class ToySource(DataSource):
    """A procedural dataset: nothing to download, masks without error.

    Attributes:
        domain: What the images show: ``cells`` (fluorescence), ``tissue`` (stained sections), ``ultrasound``,
            ``texture`` (camouflage), ``shapes`` (plain things), or ``world``, the wide mixture for pretraining. Nothing
            in ``world`` looks like ``tissue`` or ``ultrasound``: these are new to a model pretrained on it. The other
            three have distant relatives there.
        num_train: Images to train on.
        num_val: Images to validate on.
        num_test: Images to report on.
        image_size: Side in pixels, from 64 to 1024. A scene is the same at every size but for grain and noise.
        seed: Another seed gives another dataset.
        check: Accepted as by every source; generated images need no check.

    Raises:
        InputError: If a field is out of range.
    """

    domain: str
    num_train: int
    num_val: int
    num_test: int
    image_size: int = 256
    seed: int = 0
    check: bool = False

    default_steps: ClassVar[int] = 70  # two minutes of two processors
    default_objects: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            near = difflib.get_close_matches(self.domain, DOMAINS, n=3, cutoff=0.4)
            raise InputError(
                f"no toy domain {self.domain!r}; nearest: {', '.join(near) or '-'}; all: {', '.join(DOMAINS)}"
            )
        if not _SIZES[0] <= self.image_size <= _SIZES[1]:
            raise InputError(f"image_size={self.image_size}: toy images have {_SIZES[0]} to {_SIZES[1]} pixels a side")
        for name in ("num_train", "num_val", "num_test", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}: expected 0 or more")

    def splits(self) -> dict[Split, ImageSet]:
        """Return ``train``, ``val`` and ``test``; no two share an image."""
        numbers = zip(_SPLITS, (self.num_train, self.num_val, self.num_test), strict=True)
        return {split: ToyImages(self.domain, split, number, self.image_size, self.seed) for split, number in numbers}


class ToyImages(ImageSet):
    """One split of a procedural dataset. An image depends on domain, size, seed, split and index alone.

    Args:
        domain: A key of :data:`DOMAINS`.
        split: No two splits share an image.
        num_images: Number of images; image i is the same whatever this number.
        image_size: Side in pixels.
        seed: Another seed gives another dataset.
    """

    def __init__(self, domain: str, split: Split, num_images: int, image_size: int = 256, seed: int = 0) -> None:
        self.domain = domain
        self.image_size = image_size
        self.seed = seed
        self.split = split
        self.ids = Names(f"toy-{domain}/{split}/", num_images)

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """Draw one image. Objects with fewer than 16 visible pixels of a 256 px image are drawn but are no masks."""
        name = self.ids[index]
        canvas, image, areas = self._paint(index)
        (kept,) = np.nonzero(areas >= _LEAST_AREA * self.image_size**2)
        kept = kept[choose(torch.from_numpy(areas[kept]).float() / self.image_size**2).numpy()]
        levels = np.array(canvas.levels)[kept]
        planes = np.unique(levels) if len(kept) else np.zeros(1, int)
        return Sample(
            id=name,
            image=torch.from_numpy(np.ascontiguousarray(image if with_image else image[:0])),
            labels=torch.from_numpy(canvas.labels[planes]),
            plane=torch.from_numpy(np.searchsorted(planes, levels)),
            value=torch.from_numpy(kept + 1),
        )

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: name, size and seed determine the image."""
        return f"{self.ids[index]}: {self.image_size} px, seed {self.seed}"

    def _paint(self, index: int) -> tuple[Canvas, UInt8[np.ndarray, "3 h w"], Int[np.ndarray, "P"]]:
        """Return the canvas, the image and the visible area of each object, of which at least one is large enough."""
        key = zlib.crc32(self.domain.encode()), _SPLITS.index(self.split), index % len(self)
        for attempt in itertools.count():
            seeds = np.random.SeedSequence(self.seed, spawn_key=(*key, attempt))
            canvas = Canvas(self.image_size)
            image = DOMAINS[self.domain](canvas, np.random.Generator(np.random.PCG64(seeds)))
            areas = canvas.areas()
            if (areas >= _LEAST_AREA * self.image_size**2).any():
                return canvas, image, areas
        raise AssertionError


class Names(Sequence[str]):
    """Numbered names, made on access: a dataset of millions starts as fast as one of ten."""

    def __init__(self, prefix: str, number: int) -> None:
        self.prefix = prefix
        self.number = number

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.number))]
        return f"{self.prefix}{range(self.number)[index]:06d}"
