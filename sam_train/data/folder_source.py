"""Samples from pairs of image and mask files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sam_train.data.check import problem
from sam_train.data.image_io import read_image, read_labels, read_mask
from sam_train.data.pairing import Pair
from sam_train.data.source import Choose, Source, all_objects
from sam_train.structures import InputError, Sample

Objects = Literal["labels", "binary", "components"]


@dataclass(frozen=True)
class FolderSource(Source):
    """One split of a folder.

    Attributes:
        ids: Per image, its path below the images folder without suffix, after the split's name in split folders.
        pairs: Per image, its files.
        objects: What a mask file holds, see :class:`sam_train.data.folder.FolderData`.
        allow_empty: Whether a mask may be without objects; only :meth:`problems` asks.
        loose_ends: Problems of the folder that belong to no image; told with the first one.
    """

    ids: Sequence[str]
    pairs: Sequence[Pair]
    objects: Objects = "labels"
    allow_empty: bool = False
    loose_ends: Sequence[str] = ()

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`Source.read`. With one file per object areas are nan, and an all-zero file gives no object."""
        pair = self.pairs[index]
        if pair.problem:
            raise InputError(pair.problem)
        image = read_image(pair.image) if with_image else None
        if pair.per_object:
            labels, plane, value = self._read_per_object(pair, image, choose)
        else:
            pixels = self._read_mask(pair.masks[0], pair, image)
            areas, values = _objects(pixels)
            value = values[choose(areas)]
            labels, plane = torch.from_numpy(pixels)[None], torch.zeros_like(value)
        if image is None:
            image = labels.new_empty(0, *labels.shape[1:], dtype=torch.uint8)
        return Sample(self.ids[index], image, labels, plane, value)

    def fingerprint(self, index: int) -> str:
        """See :meth:`Source.fingerprint`: the file's place, size and time of change."""
        path = self.pairs[index].image
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(problem("unreadable image", path, str(error.strerror), "put it back")) from error
        return f"{path} {status.st_size} {status.st_mtime_ns}"

    def problems(self, index: int) -> list[str]:
        """See :meth:`Source.problems`; every file of the image is read once."""
        found = list(self.loose_ends) if index == 0 else []
        pair = self.pairs[index]
        image = None
        if pair.problem:
            return [*found, pair.problem]
        try:
            image = read_image(pair.image)
        except InputError as error:
            found.append(str(error))
        for path in pair.masks:
            try:
                if not self._read_mask(path, pair, image).any() and not self.allow_empty:
                    remedy = "add the objects, move image and mask elsewhere, or set data.allow_empty=true"
                    found.append(problem("all-zero mask", path, "no pixel belongs to an object", remedy))
            except InputError as error:
                found.append(str(error))
        return found

    def _read_per_object(
        self, pair: Pair, image: UInt8[Tensor, "3 h w"] | None, choose: Choose
    ) -> tuple[UInt8[Tensor, "L h w"], Int[Tensor, "P"], Int[Tensor, "P"]]:
        chosen = choose(torch.full((len(pair.masks),), torch.nan)).tolist()
        masks = [torch.from_numpy(self._read_mask(pair.masks[row], pair, image)) for row in chosen]
        planes = [mask for mask in masks if mask.any()]
        plane, value = torch.arange(len(planes)), torch.ones(len(planes), dtype=torch.long)
        if not masks and image is None:  # only the image knows its size
            image = read_image(pair.image)
        nothing = torch.zeros_like(image[0] if image is not None else masks[0])
        return torch.stack(planes or [nothing]), plane, value

    def _read_mask(
        self, path: Path, pair: Pair, image: UInt8[Tensor, "3 h w"] | None
    ) -> UInt8[np.ndarray, "h w"] | Int[np.ndarray, "h w"]:
        """The numbers of the objects, checked against the image's size where the image could be read."""
        if self.objects == "labels" and not pair.per_object:
            pixels = read_labels(path)
        else:
            pixels = read_mask(path).view(np.uint8)
            if self.objects == "components" and not pair.per_object:
                pixels = _components(pixels)
        if image is not None and pixels.shape != image.shape[-2:]:
            sizes = "{} x {}, but {} is {} x {} (height x width)".format(*pixels.shape, pair.image, *image.shape[-2:])
            turned = ", turned by its EXIF orientation" if pixels.shape == image.shape[:0:-1] else ""
            remedy = "give the mask the image's size (resize with nearest neighbour, or rotate)"
            raise InputError(problem("size mismatch", path, sizes + turned, remedy))
        return pixels


def _components(pixels: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Every piece numbered; pixels that share a corner are connected."""
    from scipy import ndimage

    labels = np.empty(pixels.shape, np.int32)
    ndimage.label(pixels, structure=np.ones((3, 3)), output=labels)
    return labels


def _objects(labels: np.ndarray) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Areas in pixels and values of all objects, by ascending value."""
    if labels.max() < labels.size:
        areas = np.bincount(labels.ravel())  # ten times as fast as sorting
        values = np.flatnonzero(areas)
        areas = areas[values]
    else:
        values, areas = np.unique(labels, return_counts=True)
    objects = values > 0
    return torch.from_numpy(areas[objects]).float(), torch.from_numpy(values[objects].astype(np.int64))
