"""Samples from pairs of image and mask files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped

from sam_train.data.sources.base import Choose, ImageSet, all_objects
from sam_train.data.sources.decoding import decode
from sam_train.data.sources.file_identity import file_content, file_fingerprint, file_identity
from sam_train.data.sources.folder_check import check_pair
from sam_train.data.sources.folder_masks import FolderMasks, PairMasks
from sam_train.data.sources.given import GivenPrompts
from sam_train.data.sources.image_files import PLAIN, named_with, read_image, stored_numbers
from sam_train.data.sources.pairing import Pair
from sam_train.data.sources.tiff_files import write_page
from sam_train.data.sources.tones import Tones
from sam_train.errors import FileError, Problem
from sam_train.label_planes import pack_masks
from sam_train.structures import Sample


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
        tones: How stored numbers become 8 bits.
        given: Boxes and points of files.
    """

    ids: Sequence[str]
    pairs: Sequence[Pair]
    groups: Sequence[str]
    masks: FolderMasks
    allow_empty: bool = False
    loose_ends: Sequence[Problem] = ()
    tones: Tones = PLAIN
    given: GivenPrompts = field(default_factory=GivenPrompts)

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read` and :meth:`FolderMasks.read`."""
        pair = self.pairs[index]
        if pair.problem:
            raise FileError(pair.problem)
        image = read_image(pair.image, tones=self.tones, page=pair.page) if with_image else None
        found = self.masks.read(pair, image, choose)
        if found is None:
            seen = image if image is not None else read_image(pair.image, tones=self.tones, page=pair.page)
            size = seen.shape[1:]
            found = PairMasks(pack_masks((), (size[0], size[1]), largest=len(pair.masks)), None)
        packed, ignored, category = found
        if image is None:
            image = packed.labels.new_empty(0, *packed.labels.shape[1:], dtype=torch.uint8)
        ignore = None if ignored is None else torch.from_numpy(ignored)
        sample = Sample(self.ids[index], image, *packed, ignore=ignore, category=category, group=self.groups[index])
        return self.given.add(sample, pair.file_name)

    @property
    def categories(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Names of the colors of masks."""
        return self.masks.colors.names if self.masks.colors else ()

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.groups[index]

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`: the file's place, size and time of change, and the rule of its tones."""
        pair = self.pairs[index]
        return named_with(pair.of_page(file_fingerprint(pair.image)), self.tones)

    def stored(self, index: int) -> bytes | None:
        """See :meth:`ImageSet.stored`; a page of a stack becomes a file of its own."""
        pair = self.pairs[index]
        if pair.page is None:
            return file_content(pair.image)
        return write_page(decode(pair.image, all_bits=True, page=pair.page))

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`: the file's size and contents, of a large one its ends and parts between."""
        pair = self.pairs[index]
        return pair.of_page(file_identity(pair.image))

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`; every file of the image is read once."""
        found = check_pair(self.pairs[index], self.masks, self.allow_empty, self.tones)
        return [*(self.loose_ends if index == 0 else ()), *found]

    def places(self) -> Sequence[int]:
        """See :class:`StoredNumbers`."""
        return range(len(self.pairs))

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """See :class:`StoredNumbers`."""
        return stored_numbers(self.pairs[index].image, None, self.tones, self.pairs[index].page)
