"""Samples from pairs of image and mask files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.folder_check import check_pair
from sam_train.data.sources.folder_masks import FolderMasks, PairMasks
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.pairing import Pair
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample

# Parts of a file by which its copies are recognized: the ends alone of uncompressed images may be all black.
_PARTS, _BYTES_OF_A_PART = 16, 1 << 14


@dataclass(frozen=True)
class FolderImages(ImageSet):
    """One split of a folder.

    Attributes:
        ids: Per image, its path below the images folder without suffix, after the split's name in split folders.
        pairs: Per image, its files.
        groups: Per image, the name of its group.
        masks: Reads the masks.
        allow_empty: Whether a mask may be without objects; only :meth:`problems` asks.
        loose_ends: Problems of the folder that belong to no image; returned with those of the first.
    """

    ids: Sequence[str]
    pairs: Sequence[Pair]
    groups: Sequence[str]
    masks: FolderMasks
    allow_empty: bool = False
    loose_ends: Sequence[Problem] = ()

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read` and :meth:`FolderMasks.read`."""
        pair = self.pairs[index]
        if pair.problem:
            raise FileError(pair.problem)
        image = read_image(pair.image) if with_image else None
        found = self.masks.read(pair, image, choose)
        if found is None:
            size = image.shape[1:] if image is not None else read_image(pair.image).shape[1:]
            found = PairMasks(pack_masks((), (size[0], size[1]), largest=len(pair.masks)), None)
        packed, ignored = found
        if image is None:
            image = packed.labels.new_empty(0, *packed.labels.shape[1:], dtype=torch.uint8)
        ignore = None if ignored is None else torch.from_numpy(ignored)
        return Sample(self.ids[index], image, *packed, ignore=ignore, group=self.groups[index])

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
        found = check_pair(self.pairs[index], self.masks, self.allow_empty)
        return [*(self.loose_ends if index == 0 else ()), *found]


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(Problem("unreadable image", path, str(error.strerror), "put it back"))
