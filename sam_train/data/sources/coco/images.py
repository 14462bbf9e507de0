"""Samples from images and their annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.coco.index import CocoIndex
from sam_train.data.sources.coco.outlines import OutlineError
from sam_train.data.sources.doubts import Notice
from sam_train.data.sources.file_identity import file_content, file_fingerprint, file_identity
from sam_train.data.sources.given import GivenPrompts, to_prompts
from sam_train.data.sources.image_files import PLAIN, named_with, read_image, stored_numbers
from sam_train.data.sources.tones import Tones
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample

GIVEN = ("boxes", "keypoints", "both")
"""Which prompts of the annotations are given."""


@dataclass(frozen=True)
class CocoImages(ImageSet):
    """One split of a COCO source.

    Attributes:
        ids: Per image, its file below the root.
        root: The folder.
        index: What the annotation file says.
        images: Per image, its index there.
        groups: Per image, the name of its group.
        faults: Why an image cannot be used, by its index in the annotation file.
        loose_ends: Problems that belong to no image; returned with those of the first.
        tones: How stored numbers become 8 bits.
        given: Which prompts of the annotations are given: one of :data:`GIVEN`.
        files: Boxes and points of files, which take their place.
    """

    ids: Sequence[str]
    root: Path
    index: CocoIndex
    images: Int[np.ndarray, "n"]
    groups: Sequence[str]
    faults: dict[int, Problem]
    loose_ends: Sequence[Problem] = ()
    tones: Tones = PLAIN
    given: str = "boxes"
    files: GivenPrompts = field(default_factory=GivenPrompts)

    @property
    def categories(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Names of all categories."""
        return self.index.categories

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`; areas are those of the annotation file.

        Raises:
            FileError: If the image cannot be read or has another size than the file says, or if an outline is none.
        """
        coco, size = self.index, self._size(index)
        image = None
        if with_image or size is None:
            image = self._read_image(index)
            size = image.shape[1], image.shape[2]
        rows = coco.rows(self.images[index])
        chosen = choose(self._shares(rows, size)).tolist()
        masks = ((place + 1, torch.from_numpy(self._mask(index, rows[place], size))) for place in chosen)
        packed = pack_masks(masks, size, largest=max(len(rows), 1))
        kept = [rows[value - 1] for value in packed.value.tolist()]
        if image is None or not with_image:
            image = torch.empty(0, *size, dtype=torch.uint8)
        categories = tuple(coco.categories[coco.category[row]] for row in kept) if coco.categories else None
        crowd = torch.from_numpy(coco.crowd[kept])
        sample = Sample(
            self.ids[index],
            image,
            *packed,
            category=categories,
            crowd=crowd if crowd.any() else None,
            prompts=to_prompts([coco.given(row, self.given) for row in kept]),
            group=self.groups[index],
        )
        return self.files.add(sample, *self._names(index))

    def file_names(self) -> list[str]:
        """Return what the images may be called in files of prompts."""
        return [name for index in range(len(self.ids)) for name in (self.ids[index], *self._names(index))]

    def _names(self, index: int) -> tuple[str, str]:
        image = int(self.images[index])
        return self.index.image_id[image], self.index.names[image]

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.groups[index]

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: the file's place, size and time of change, and the rule of its tones."""
        self._require_file(index)
        return named_with(file_fingerprint(self.root / self.ids[index]), self.tones)

    def stored(self, index: int) -> bytes:
        """See :meth:`ImageSet.stored`."""
        self._require_file(index)
        return file_content(self.root / self.ids[index])

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the file's size and contents."""
        self._require_file(index)
        return file_identity(self.root / self.ids[index])

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`; the image and every outline are read."""
        return [*(self.loose_ends if index == 0 else ()), *self._problems(index)]

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`."""
        return range(len(self.ids))

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`."""
        self._require_file(index)
        return stored_numbers(self.root / self.ids[index], None, self.tones)

    def _problems(self, index: int) -> Iterator[Problem]:
        size = self._size(index)
        try:
            image = self._read_image(index)
            size = image.shape[1], image.shape[2]
        except FileError as error:
            yield error.problem
        empty = 0
        if size is None:
            return
        for row in self.index.rows(self.images[index]):
            try:
                empty += not self._mask(index, row, size).any()
            except FileError as error:
                yield error.problem
        remedy = "they are left out, in training and evaluation"
        found = f"{empty} of its outlines hold no pixel"
        yield Notice("outlines without a pixel", self.root / self.ids[index], found, remedy, empty > 0)

    def _require_file(self, index: int) -> None:
        if problem := self.faults.get(int(self.images[index])):
            raise FileError(problem)

    def _read_image(self, index: int) -> Tensor:
        self._require_file(index)
        path, said = self.root / self.ids[index], self._size(index)
        image = read_image(path, tones=self.tones)
        size = image.shape[1], image.shape[2]
        if said is not None and size != said:
            sizes = "{} x {}, but {} says {} x {} (height x width)".format(*size, self.index.path, *said)
            turned = ", the same turned by a quarter: its EXIF tag was not minded" if size == said[::-1] else ""
            remedy = "export the annotations anew for this image, or put back the image that they were made on"
            raise FileError(Problem("size mismatch", path, sizes + turned, remedy))
        return image

    def _size(self, index: int) -> tuple[int, int] | None:
        height, width = self.index.sizes[self.images[index]].tolist()
        return (height, width) if height and width else None

    def _shares(self, rows: range, size: tuple[int, int]) -> Float[Tensor, "n"]:
        of_image = slice(rows.start, rows.stop)
        shares = np.where(self.index.crowd[of_image], 0, self.index.area[of_image] / (size[0] * size[1]))
        return torch.from_numpy(shares.astype(np.float32))

    def _mask(self, index: int, row: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        try:
            return self.index.outlines.mask(row, size)
        except OutlineError as error:
            found = f"annotation {self.index.number[row]} of {self.ids[index]}: {error.found}"
            raise FileError(Problem(error.kind, self.index.path, found, error.remedy)) from error
