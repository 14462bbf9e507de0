"""The objects of a folder's images, read as the settings say what mask files hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from sam_train.data.sources.base import Choose
from sam_train.data.sources.color_tables import ColorTable
from sam_train.data.sources.mask_files import Numbers, read_numbers
from sam_train.data.sources.mask_pieces import count_numbers, number_pieces
from sam_train.data.sources.pairing import Pair
from sam_train.errors import FileError, Problem
from sam_train.label_planes import Packed, pack_masks

Objects = Literal["labels", "binary", "components"]


class PairMasks(NamedTuple):
    """The objects of an image.

    Attributes:
        packed: On label planes.
        ignored: Pixels that are neither object nor background; None where the settings name none.
        category: Of each object, its color's name; None where masks hold numbers.
    """

    packed: Packed
    ignored: Bool[np.ndarray, "h w"] | None
    category: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FolderMasks:
    """Settings of mask files, and what they make of the masks of a pair.

    Attributes:
        objects: What a mask file holds, see :class:`sam_train.data.sources.folder.FolderSource`.
        background: The number of background; None for 0, with a question in the check where that looks wrong.
        ignore: Numbers of pixels that are neither object nor background.
        colors: Which color is which number; None for masks that hold numbers.
    """

    objects: Objects = "labels"
    background: int | None = None
    ignore: Sequence[int] = ()
    colors: ColorTable | None = None

    def is_region(self, pair: Pair) -> bool:
        """Tell whether a mask file of a pair says where objects are, rather than which is where."""
        return pair.per_object or (self.objects != "labels" and self.colors is None)

    def read_file(self, path: Path, pair: Pair, image: UInt8[Tensor, "3 h w"] | None) -> Numbers:
        """Read one mask file of a pair.

        Raises:
            FileError: If it cannot be read, or has not the image's size where the image could be read.
        """
        numbers = read_numbers(
            path, self.is_region(pair), self.background or 0, self.ignore, page=pair.page, colors=self.colors
        )
        pixels = numbers.pixels
        if image is not None and pixels.shape != image.shape[-2:]:
            sizes = "{} x {}, but {} is {} x {} (height x width)".format(*pixels.shape, pair.image, *image.shape[-2:])
            turned = ", the same turned by a quarter" if pixels.shape == image.shape[:0:-1] else ""
            remedy = "give the mask the image's size (resize with nearest neighbor, or rotate as its EXIF tag says)"
            raise FileError(Problem("size mismatch", path, sizes + turned, remedy))
        return numbers

    def read(self, pair: Pair, image: UInt8[Tensor, "3 h w"] | None, choose: Choose) -> PairMasks | None:
        """Read the objects of a pair that ``choose`` picks; None where no file was opened.

        With one file per object, areas are nan, an all-zero file gives no object, and the pixels that are ignored are
        those of the files that are read.

        Raises:
            FileError: See :meth:`read_file`.
        """
        if pair.per_object:
            chosen = choose(torch.full((len(pair.masks),), torch.nan)).tolist()
            return self._read_files(pair, chosen, image) if chosen else None
        classes, ignored, _ = self.read_file(pair.masks[0], pair, image)
        pixels = classes
        if self.objects == "components":
            pixels = number_pieces(pixels)
        elif self.objects == "binary":
            pixels = (pixels != 0).view(np.uint8)
        areas, values = _objects(pixels)
        value = values[choose(areas / pixels.size)]
        packed = Packed(torch.from_numpy(pixels)[None], torch.zeros_like(value), value)
        return PairMasks(packed, ignored, self._category(classes, pixels, value) if self.colors else None)

    def _category(
        self, classes: Int[np.ndarray, "h w"], pixels: Shaped[np.ndarray, "h w"], value: Int[Tensor, "n"]
    ) -> tuple[str, ...]:
        """Return the name of the color at the first pixel of each object."""
        assert self.colors is not None
        first = np.zeros(int(pixels.max(initial=0)) + 1, np.int64)
        first[pixels.ravel()[::-1]] = classes.ravel()[::-1]
        return tuple(self.colors.names[number - 1] for number in first[value.numpy()].tolist())

    def _read_files(self, pair: Pair, chosen: Sequence[int], image: UInt8[Tensor, "3 h w"] | None) -> PairMasks:
        ignored: Bool[np.ndarray, "h w"] | None = None

        def read(row: int) -> tuple[int, Bool[Tensor, "h w"]]:
            nonlocal ignored
            numbers = self.read_file(pair.masks[row], pair, image)
            if numbers.ignored is not None:
                ignored = numbers.ignored if ignored is None else ignored | numbers.ignored
            return row + 1, torch.from_numpy(numbers.pixels).ne(0)

        first, *rest = chosen
        mask = read(first)
        height, width = mask[1].shape
        packed = pack_masks(chain([mask], map(read, rest)), (height, width), largest=len(pair.masks))
        if ignored is not None:  # what one file leaves open and another calls its object is an object
            ignored = ignored & ~packed.labels.ne(0).any(dim=0).numpy()
        return PairMasks(packed, ignored)


def _objects(pixels: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """Return areas in pixels and numbers of all objects, by ascending number."""
    _, numbers, areas = count_numbers(pixels)
    is_object = numbers > 0
    return torch.from_numpy(areas[is_object]).float(), torch.from_numpy(numbers[is_object].astype(np.int64))
