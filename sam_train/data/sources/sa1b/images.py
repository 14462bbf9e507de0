"""Samples from images and the masks that JSON beside them holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.coco.outlines import OutlineError, Outlines
from sam_train.data.sources.coco.reading import pack_outlines, parse_json
from sam_train.data.sources.file_identity import file_content
from sam_train.data.sources.given import to_prompts
from sam_train.data.sources.image_files import PLAIN, named_with, read_image, stored_numbers
from sam_train.data.sources.prompt_files import GivenObject
from sam_train.data.sources.sa1b.records import Records
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.turns import mixed_by_turns
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample

TARS_AT_ONCE = 4
"""Tars whose images are mixed. SA-1B's hold 11,000 each: well mixed, and a cache of large files need hold few."""
_EXPORT = "write it as SA-1B does: image with height and width, annotations with segmentation"


@dataclass(frozen=True)
class Sa1bImages(ImageSet):
    """One split of records.

    Attributes:
        ids: Per image, its record's name.
        records: All records.
        rows: Per image, its record.
        groups: Per image, the name of its group; empty where each stands alone.
        loose_ends: Problems that belong to no image; returned with those of the first.
        tones: How stored numbers become 8 bits.
    """

    ids: Sequence[str]
    records: Records
    rows: Int[np.ndarray, "n"]
    groups: Sequence[str] = ()
    loose_ends: Sequence[Problem] = ()
    tones: Tones = PLAIN

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`; areas are those that JSON says.

        Raises:
            FileError: If image or JSON cannot be read, or are not of one size, or if a mask is none.
        """
        path, annotations, said = self._content(index)
        size, image = _size(said), None
        if with_image or size is None:
            image = self._image(index, size)
            size = image.shape[1], image.shape[2]
        outlines = pack_outlines([one.get("segmentation") for one in annotations], path)
        chosen = choose(_shares(annotations, size)).tolist()
        masks = ((place + 1, torch.from_numpy(self._mask(index, outlines, place, size))) for place in chosen)
        packed = pack_masks(masks, size, largest=max(len(annotations), 1))
        kept = [annotations[value - 1] for value in packed.value.tolist()]
        names = [one.get("category") for one in kept]
        crowd = torch.tensor([bool(one.get("iscrowd")) for one in kept], dtype=torch.bool)
        return Sample(
            self.ids[index],
            image if image is not None and with_image else torch.empty(0, *size, dtype=torch.uint8),
            *packed,
            category=tuple(map(str, names)) if names and None not in names else None,
            crowd=crowd if crowd.any() else None,
            prompts=to_prompts([_given(one) for one in kept]),
            group=self.groups[index] if self.groups else _group(said) or self.ids[index],
            spacing=_spacing(said),
        )

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`: what the settings say, or else what the JSON does."""
        if self.groups:
            return self.groups[index]
        return _group(self._content(index)[2]) or self.ids[index]

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`."""
        return named_with(self.records.fingerprint(int(self.rows[index])), self.tones)

    def stored(self, index: int) -> bytes:
        """See :meth:`ImageSet.stored`."""
        path, content = self.records.image(int(self.rows[index]))
        return file_content(path) if content is None else content

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        return self.records.identity(int(self.rows[index]))

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`; the image and every mask are read."""
        return [*(self.loose_ends if index == 0 else ()), *super().problems(index)]

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """See :meth:`ImageSet.shuffled`: the images of a few tars mixed, then those of the next."""
        return mixed_by_turns(torch.from_numpy(self.records.shard[self.rows]), TARS_AT_ONCE, generator)

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`."""
        return range(len(self.ids))

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`."""
        path, content = self.records.image(int(self.rows[index]))
        return stored_numbers(path, content, self.tones)

    def _content(self, index: int) -> tuple[Path, list[dict[str, Any]], dict[str, Any]]:
        """Return the name of a record's JSON, its annotations, and what it says of the image."""
        path, text = self.records.json(int(self.rows[index]))
        content = parse_json(text, path)
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(annotations, list) or not all(type(one) is dict for one in annotations):
            have = ", ".join(content) if isinstance(content, dict) else type(content).__name__
            found = f"has no list of annotations, but {have or 'nothing'}"
            raise FileError(Problem("no SA-1B file", path, found, _EXPORT))
        image = content.get("image")
        return path, annotations, image if isinstance(image, dict) else {}

    def _image(self, index: int, said: tuple[int, int] | None) -> Tensor:
        path, content = self.records.image(int(self.rows[index]))
        image = read_image(path, content, self.tones)
        size = image.shape[1], image.shape[2]
        if said is not None and size != said:
            found = "{} x {}, but its JSON says {} x {} (height x width)".format(*size, *said)
            raise FileError(Problem("size mismatch", path, found, "put back the image that the masks were made on"))
        return image

    def _mask(self, index: int, outlines: Outlines, place: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        try:
            return outlines.mask(place, size)
        except OutlineError as error:
            path, _ = self.records.json(int(self.rows[index]))
            raise FileError(Problem(error.kind, path, f"annotation {place}: {error.found}", error.remedy)) from error


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    """Return the height and width that JSON says.

    Of a size that no image has the image itself must say more, before masks of that size are made.
    """
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 and height * width < 1 << 31:
        return height, width
    return None


def _group(image: dict[str, Any]) -> str | None:
    """Return the patient, slide or video that JSON says, as ``sam-data convert`` writes it."""
    return image["group"] if isinstance(image.get("group"), str) else None


def _spacing(image: dict[str, Any]) -> tuple[float, float] | None:
    """Return the distances in mm from row to row and from column to column that JSON says."""
    found = image.get("spacing")
    return (found[0], found[1]) if isinstance(found, list) and _are_numbers(found, 2) else None


def _shares(annotations: Sequence[dict[str, Any]], size: tuple[int, int]) -> Float[Tensor, "n"]:
    """Return the shares of the image that objects cover; nan where it is not said, 0 of crowds."""
    areas = [one.get("area") for one in annotations]
    shares = [area / (size[0] * size[1]) if isinstance(area, (int, float)) else torch.nan for area in areas]
    pairs = zip(annotations, shares, strict=True)
    return torch.tensor([0.0 if one.get("iscrowd") else share for one, share in pairs], dtype=torch.float32)


def _given(annotation: dict[str, Any]) -> GivenObject:
    """Return the box of an annotation and the points that it was drawn from, as SA-1B says them."""
    box, points = annotation.get("bbox"), annotation.get("point_coords")
    pairs = points if isinstance(points, list) and all(_are_numbers(point, 2) for point in points) else []
    corners = None
    if isinstance(box, list) and _are_numbers(box, 4):
        left, top, width, height = box
        corners = (left, top, left + width, top + height)
    return GivenObject(corners, tuple((float(x), float(y)) for x, y in pairs), (1,) * len(pairs))


def _are_numbers(found: Any, number: int) -> bool:
    return isinstance(found, list) and len(found) == number and all(type(one) in (int, float) for one in found)
