"""Samples from pairs of image and mask files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.check import DOUBTFUL
from sam_train.data.sources.image_files import read_image, read_labels, read_mask
from sam_train.data.sources.pairing import Pair
from sam_train.errors import FileError, Problem
from sam_train.label_planes import Packed, pack_masks
from sam_train.structures import Sample

Objects = Literal["labels", "binary", "components"]
_MANY_PIECES = 5  # one object rarely has as many, even behind others
# By which a copy of a file is recognized: the ends alone of uncompressed images may be nothing but black.
_PARTS, _BYTES_OF_A_PART = 16, 1 << 14


@dataclass(frozen=True)
class FolderImages(ImageSet):
    """One split of a folder.

    Attributes:
        ids: Per image, its path below the images folder without suffix, after the split's name in split folders.
        pairs: Per image, its files.
        groups: Per image, what it must not be split from.
        objects: What a mask file holds, see :class:`sam_train.data.sources.folder.FolderSource`.
        allow_empty: Whether a mask may be without objects; only :meth:`problems` asks.
        loose_ends: Problems of the folder that belong to no image; told with the first one.
    """

    ids: Sequence[str]
    pairs: Sequence[Pair]
    groups: Sequence[str]
    objects: Objects = "labels"
    allow_empty: bool = False
    loose_ends: Sequence[Problem] = ()

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`. With one file per object areas are nan, and an all-zero file gives no object."""
        pair = self.pairs[index]
        if pair.problem:
            raise FileError(pair.problem)
        image = read_image(pair.image) if with_image else None
        if pair.per_object:
            labels, plane, value = self._read_per_object(pair, image, choose)
        else:
            pixels = self._read_mask(pair.masks[0], pair, image)
            areas, values = _objects(pixels)
            value = values[choose(areas / pixels.size)]
            labels, plane = torch.from_numpy(pixels)[None], torch.zeros_like(value)
        if image is None:
            image = labels.new_empty(0, *labels.shape[1:], dtype=torch.uint8)
        return Sample(self.ids[index], image, labels, plane, value, group=self.groups[index])

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.groups[index]

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: the file's place, size and time of change."""
        path = self.pairs[index].image
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        return f"{path} {status.st_size} {status.st_mtime_ns}"

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the file's size and contents, of a large one its ends and parts between."""
        path = self.pairs[index].image
        digest = hashlib.blake2b(digest_size=16)
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                step = max(size // _PARTS, _BYTES_OF_A_PART)
                for start in (*range(0, size, step), max(size - _BYTES_OF_A_PART, 0)):
                    file.seek(start)
                    digest.update(file.read(_BYTES_OF_A_PART))
        except OSError as error:
            raise _unreadable(path, error) from error
        return f"{size} {digest.hexdigest()}"

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`; every file of the image is read once."""
        found = list(self.loose_ends) if index == 0 else []
        pair = self.pairs[index]
        image = None
        if pair.problem:
            return [*found, pair.problem]
        try:
            image = read_image(pair.image)
        except FileError as error:
            found.append(error.problem)
        for path in pair.masks:
            try:
                pixels = self._read_mask(path, pair, image)
                if not pixels.any() and not self.allow_empty:
                    remedy = "add the objects, move image and mask elsewhere, or set data.allow_empty=true"
                    found.append(Problem("all-zero mask", path, "no pixel belongs to an object", remedy))
                if self.objects == "labels" and not pair.per_object and (count := _num_soft(pixels)):
                    what = f"most of its {count} numbers are steps from one to another, as smoothing leaves along edges"
                    remedy = (
                        "save it without smoothing (resize with nearest neighbour) or set data.objects=binary, or "
                        "data.check=false if they are objects"
                    )
                    found.append(Problem("soft edges", path, what, remedy))
                if self.objects == "labels" and not pair.per_object and (count := _num_pieces(pixels)) >= _MANY_PIECES:
                    what = f"{count} separate pieces have the same number, so that they count as one object"
                    remedy = (
                        "set data.objects=components if each piece is an object, or data.objects=binary if all are one "
                        "(data.check=false takes them as they are)"
                    )
                    found.append(Problem(DOUBTFUL, path, what, remedy))
            except FileError as error:
                found.append(error.problem)
        return found

    def _read_per_object(self, pair: Pair, image: UInt8[Tensor, "3 h w"] | None, choose: Choose) -> Packed:
        chosen = choose(torch.full((len(pair.masks),), torch.nan)).tolist()
        # One after the other: the first gives the size where the image was not read.
        masks = ((row + 1, torch.from_numpy(self._read_mask(pair.masks[row], pair, image)).ne(0)) for row in chosen)
        first = next(masks, None)
        if first is None:
            size = image.shape[1:] if image is not None else read_image(pair.image).shape[1:]
            return pack_masks((), (size[0], size[1]), largest=len(pair.masks))
        return pack_masks(chain([first], masks), (first[1].shape[0], first[1].shape[1]), largest=len(pair.masks))

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
            turned = ", the same turned by a quarter" if pixels.shape == image.shape[:0:-1] else ""
            remedy = "give the mask the image's size (resize with nearest neighbour, or rotate as its EXIF tag says)"
            raise FileError(Problem("size mismatch", path, sizes + turned, remedy))
        return pixels


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(Problem("unreadable image", path, str(error.strerror), "put it back"))


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


def _num_pieces(labels: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> int:
    """Of the one object of a label image how many connected pieces there are; 0 if it has several or a main piece."""
    areas = _objects(labels)[0]
    if len(areas) != 1:
        return 0
    pieces = np.bincount(_components((labels > 0).view(np.uint8)).ravel())[1:]
    return len(pieces) if 2 * pieces.max() < areas[0] else 0


def _num_soft(labels: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> int:
    """How many numbers there are, if most look like steps between others and not like objects; else 0.

    A step is nowhere 2 x 2 pixels large and mostly has a smaller number on one side and a larger one on another.
    """
    corner, right, below = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1]
    is_block = (corner == right) & (corner == below) & (corner == labels[1:, 1:])
    num_solid, num_all = (len(_objects(part)[1]) if part.size else 0 for part in (corner[is_block], labels))
    if num_all < 4 or 2 * num_solid >= num_all:  # as nearly always, and found ten times as fast as the rest
        return 0
    padded = np.pad(labels.astype(np.int64), 1, mode="edge")
    beside = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    is_between = (beside.min(axis=0) < labels) & (labels < beside.max(axis=0))
    values, number, area = np.unique(labels, return_inverse=True, return_counts=True)
    steps = np.bincount(number.ravel(), weights=is_between.ravel()) > area / 2
    steps &= ~np.isin(values, corner[is_block])
    return num_all if 2 * steps.sum() > num_all else 0
