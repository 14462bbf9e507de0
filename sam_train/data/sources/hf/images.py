"""Samples from rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.coco.outlines import OutlineError
from sam_train.data.sources.coco.reading import pack_outlines
from sam_train.data.sources.file_identity import file_content, file_identity
from sam_train.data.sources.hf.columns import Columns
from sam_train.data.sources.hf.parquet import OPEN_GROUPS, ParquetTable
from sam_train.data.sources.image_files import PLAIN, named_with, read_image, stored_numbers
from sam_train.data.sources.mask_files import Numbers, read_numbers
from sam_train.data.sources.mask_pieces import count_numbers, number_pieces
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.turns import mixed_by_turns
from sam_train.errors import FileError, Problem
from sam_train.label_planes import Packed, pack_masks
from sam_train.structures import Sample

if TYPE_CHECKING:
    from datasets import Dataset

_CATEGORIES = ("category", "category_id", "categories", "label", "labels", "class")


@dataclass(frozen=True)
class HfImages(ImageSet):
    """Rows of one split.

    Attributes:
        ids: Per image, the split's name in the data set and the number of the row.
        groups: Per image, the name of its group.
        rows: Per image, its row.
        table: The data set, in which images are bytes or paths.
        columns: Which hold what.
        where: Name of the data set in messages.
        roots: Folders that files of images may be in.
        objects: What one mask image holds, see :class:`sam_train.data.sources.folder.FolderSource`.
        background: The number of background in mask images.
        ignore: Numbers of pixels that are neither object nor background.
        names: Of the categories, by their number in the objects; empty where the data do not say.
        tones: How stored numbers become 8 bits.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    rows: Int[np.ndarray, "n"]
    table: Dataset | ParquetTable
    columns: Columns
    where: str
    roots: tuple[Path, ...]
    objects: str = "labels"
    background: int = 0
    ignore: Sequence[int] = ()
    names: Sequence[str] = ()
    tones: Tones = PLAIN

    @property
    def categories(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Names of all categories, where the data say them."""
        return self.names

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`; areas are known beforehand where the mask is one image."""
        row = self._row(index)
        image = self._image(index, row)
        size = image.shape[1], image.shape[2]
        cell, kind = row[self.columns.mask], self.columns.kind
        if kind == "image":
            numbers = self._numbers(index, cell, size, is_region=self.objects != "labels")
            packed = self._labels(numbers, choose)
            found = _Found([], torch.zeros(0), _no_mask)
            ignore = None if numbers.ignored is None else torch.from_numpy(numbers.ignored)
        else:
            found = self._files(index, cell, size) if kind == "images" else self._outlines(index, cell, size)
            chosen = choose(found.shares).tolist()
            masks = ((one + 1, torch.from_numpy(found.mask(one))) for one in chosen)
            packed = pack_masks(masks, size, largest=max(len(found.shares), 1))
            ignore = None
        places = [value - 1 for value in packed.value.tolist()]
        return Sample(
            self.ids[index],
            image if with_image else image[:0],
            *packed,
            ignore=ignore,
            category=tuple(found.categories[place] for place in places) if found.categories else None,
            crowd=(found.shares[places] == 0) if kind == "outlines" and (found.shares == 0).any() else None,
            group=self.group(index),
        )

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """See :meth:`ImageSet.shuffled`: of parquet files that are read where they lie, a few row groups at a time."""
        if not isinstance(self.table, ParquetTable):
            return super().shuffled(generator)
        return mixed_by_turns(torch.from_numpy(self.table.shards(self.rows)), OPEN_GROUPS, generator)

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.groups[index]

    def stored(self, index: int) -> bytes:
        """See :meth:`ImageSet.stored`."""
        content, path = self._file(index, self._row(index)[self.columns.image], self.columns.image)
        return file_content(path) if content is None else content

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the content of the image's file."""
        content, path = self._file(index, self._row(index)[self.columns.image], self.columns.image)
        return file_identity(path) if content is None else hashlib.blake2b(content, digest_size=16).hexdigest()

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: the same, and the rule of its tones."""
        return named_with(self.identity(index), self.tones)

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`."""
        return range(len(self.ids))

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`."""
        content, path = self._file(index, self._row(index)[self.columns.image], self.columns.image)
        return stored_numbers(path, content, self.tones)

    def _row(self, index: int) -> dict[str, Any]:
        return self.table[int(self.rows[index])]

    def _named(self, index: int, column: str) -> Path:
        """Return the name of a cell in messages."""
        return Path(self.where, self.ids[index], column)

    def _file(self, index: int, cell: Any, column: str) -> tuple[bytes | None, Path]:
        """Return the bytes of a cell, or the file it names; nothing outside of the data is read."""
        name = self._named(index, column)
        content, path = (cell or {}).get("bytes"), (cell or {}).get("path")
        if content is not None:
            return content, name
        if not path:
            raise FileError(Problem("empty cell", name, "holds no image", "fill it, or remove the row"))
        file = Path(os.path.realpath(path))
        if not any(file.is_relative_to(root) for root in self.roots):
            remedy = "put the file below data.root, or its bytes into the table"
            raise FileError(Problem("name leads out of the data root", name, f"leads to {path}", remedy))
        return None, file

    def _image(self, index: int, row: Mapping[str, Any]) -> Tensor:
        content, path = self._file(index, row[self.columns.image], self.columns.image)
        return read_image(path, content, self.tones)

    def _numbers(self, index: int, cell: Any, size: tuple[int, int], is_region: bool) -> Numbers:
        content, path = self._file(index, cell, self.columns.mask)
        numbers = read_numbers(path, is_region, self.background, self.ignore, content)
        if numbers.pixels.shape != size:
            found = "{} x {}, but its image is {} x {} (height x width)".format(*numbers.pixels.shape, *size)
            remedy = "give the mask the image's size (resize with nearest neighbor)"
            raise FileError(Problem("size mismatch", path, found, remedy))
        return numbers

    def _labels(self, numbers: Numbers, choose: Choose) -> Packed:
        pixels = numbers.pixels
        if self.objects == "components":
            pixels = number_pieces(pixels)
        elif self.objects == "binary":
            pixels = (pixels != 0).astype(np.int32)
        _, values, areas = count_numbers(pixels)
        shares: Float[Tensor, "n"] = torch.from_numpy(areas[values > 0] / pixels.size).float()
        value = torch.from_numpy(values[values > 0].astype(np.int64))[choose(shares)]
        return Packed(torch.from_numpy(pixels)[None], torch.zeros_like(value), value)

    def _files(self, index: int, cell: Any, size: tuple[int, int]) -> _Found:
        """Return the objects of a list of binary images."""
        cells = list(cell or ())

        def mask(place: int) -> Bool[np.ndarray, "h w"]:
            return self._numbers(index, cells[place], size, is_region=True).pixels > 0

        return _Found([], torch.full((len(cells),), torch.nan), mask)

    def _outlines(self, index: int, cell: Any, size: tuple[int, int]) -> _Found:
        """Return the objects of run lengths, or of COCO's annotations."""
        records = list(_records(cell))
        path = self._named(index, self.columns.mask)
        drawn = pack_outlines([one.get("segmentation", one if "counts" in one else None) for one in records], path)

        def mask(place: int) -> Bool[np.ndarray, "h w"]:
            try:
                return drawn.mask(place, size)
            except OutlineError as error:
                found = f"object {place}: {error.found}"
                raise FileError(Problem(error.kind, path, found, error.remedy)) from error

        key = next((key for key in _CATEGORIES if records and key in records[0]), None)
        numbers = [one[key] for one in records] if key else []
        names = [self.names[one] if self.names and isinstance(one, int) else str(one) for one in numbers]
        shares = torch.tensor([0.0 if one.get("iscrowd") else torch.nan for one in records])
        return _Found(names, shares, mask)


class _Found(NamedTuple):
    """Objects of a row: categories where the data say them, shares of the image (0 for a crowd), and masks."""

    categories: list[str]
    shares: Float[Tensor, "n"]
    mask: Callable[[int], Bool[np.ndarray, "h w"]]


def _no_mask(place: int) -> Bool[np.ndarray, "h w"]:
    raise AssertionError(place)


def _records(cell: Any) -> Iterator[dict[str, Any]]:
    """Yield one record an object; cells hold a list of records, a record of lists, or one mask."""
    if isinstance(cell, list):
        yield from cell
    elif isinstance(cell, dict) and "segmentation" in cell:
        count = len(cell["segmentation"] or ())
        lists = {key: value for key, value in cell.items() if isinstance(value, list) and len(value) == count}
        yield from ({key: value[place] for key, value in lists.items()} for place in range(count))
    elif isinstance(cell, dict):
        is_many = isinstance(cell["size"], list) and cell["size"] and isinstance(cell["size"][0], list)
        if is_many:
            yield from ({"size": size, "counts": c} for size, c in zip(cell["size"], cell["counts"], strict=True))
        else:
            yield cell
