"""Samples from LabelMe files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.doubts import Notice
from sam_train.data.sources.file_identity import file_content, file_identity
from sam_train.data.sources.image_files import PLAIN, named_with, read_image, stored_numbers
from sam_train.data.sources.labelme.shapes import decoded, mask_of, objects_of
from sam_train.data.sources.safe_walk import is_inside
from sam_train.data.sources.tones import Tones
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample


@dataclass(frozen=True)
class LabelMeImages(ImageSet):
    """One split.

    Attributes:
        ids: Per image, its JSON file below the root, without suffix.
        groups: Per image, the name of its group.
        root: The folder.
        only: Labels that count; None for all.
        links: Whether links may lead out of the root.
        tones: How stored numbers become 8 bits.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    root: Path
    only: Sequence[str] | None = None
    links: bool = False
    tones: Tones = PLAIN

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`; areas are nan."""
        path = self._json(index)
        content = _load(path)
        objects = objects_of(content, self.only, path)
        image = self._image(content, path)
        size = image.shape[1], image.shape[2]
        chosen = choose(torch.full((len(objects),), torch.nan)).tolist()
        masks = ((place + 1, torch.from_numpy(mask_of(objects[place], size, path))) for place in chosen)
        packed = pack_masks(masks, size, largest=max(len(objects), 1))
        return Sample(
            self.ids[index],
            image if with_image else image[:0],
            *packed,
            category=tuple(objects[value - 1].label for value in packed.value.tolist()),
            group=self.groups[index],
        )

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.groups[index]

    def stored(self, index: int) -> bytes:
        """See :meth:`ImageSet.stored`."""
        path = self._json(index)
        content, file = self._file(_load(path), path)
        return file_content(file) if content is None else content

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the content of the image's file, or of the image in the JSON file."""
        path = self._json(index)
        content, file = self._file(_load(path), path)
        return file_identity(file) if content is None else hashlib.blake2b(content, digest_size=16).hexdigest()

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: the same, and the rule of its tones."""
        return named_with(self.identity(index), self.tones)

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`."""
        return range(len(self.ids))

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`."""
        path = self._json(index)
        content, file = self._file(_load(path), path)
        return stored_numbers(file, content, self.tones)

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`: of the image and of each shape."""
        path = self._json(index)
        try:
            content = _load(path)
            objects = objects_of(content, self.only, path)
            size = self._image(content, path).shape[1:]
        except FileError as error:
            return [error.problem]
        found: list[Problem] = []
        empty = 0
        for one in objects:
            try:
                empty += not mask_of(one, (size[0], size[1]), path).any()
            except FileError as error:
                found.append(error.problem)
        remedy = "they are left out, in training and evaluation"
        return [*found, Notice("shapes without a pixel", path, f"{empty} hold no pixel", remedy, empty > 0)]

    def _json(self, index: int) -> Path:
        return self.root / f"{self.ids[index]}.json"

    def _image(self, content: Mapping[str, Any], path: Path) -> UInt8[Tensor, "3 h w"]:
        found, file = self._file(content, path)
        image = read_image(file, found, self.tones)
        said = content.get("imageHeight"), content.get("imageWidth")
        if None not in said and said != (size := (image.shape[1], image.shape[2])):
            sizes = "{} x {}, but {} says {} x {} (height x width)".format(*size, path, *said)
            remedy = "draw the shapes anew on this image, or put back the image that they were drawn on"
            raise FileError(Problem("size mismatch", file, sizes, remedy))
        return image

    def _file(self, content: Mapping[str, Any], path: Path) -> tuple[bytes | None, Path]:
        """Return the file of an image; where it is not there, the image that the JSON file holds.

        Raises:
            FileError: If the name leads out of the root, or there is neither.
        """
        name = str(content.get("imagePath") or "").replace("\\", "/")
        embedded = decoded(content.get("imageData"))
        file = path.parent / name
        remedy = "put the image below data.root and its name into imagePath, or save it into the file (imageData)"
        # It may go up, as LabelMe writes where annotations have a folder of their own, but not out of the root.
        by_name = Path(os.path.normpath(file)).is_relative_to(os.path.normpath(self.root))
        if name and (not by_name or not (self.links or is_inside(file, self.root))):
            found = f"imagePath is {name}, which is absolute or leads out of {self.root}"
            raise FileError(Problem("name leads out of the data root", path, found, remedy))
        if name and file.is_file():
            return None, file
        if embedded is not None:
            return embedded, path
        raise FileError(Problem("missing image", path, f"no {file}, and no image in the file itself", remedy))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(Problem("damaged JSON", path, f"no complete JSON ({error})", "save it anew")) from error
    if not isinstance(content, dict):
        found = f"holds a {type(content).__name__}, where LabelMe has shapes"
        raise FileError(Problem("no LabelMe file", path, found, "save it anew with LabelMe"))
    return content
