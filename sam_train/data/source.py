"""What a dataset is to the rest of the package: images with objects, read lazily."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sam_train.structures import Sample

Split = Literal["train", "val", "test"]

Choose = Callable[[Float[Tensor, "n"]], Int[Tensor, "k"]]
"""From the areas of an image's objects (shares of the image; nan where that is not known without decoding) to the
indices of the objects to read."""


def all_objects(shares: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Every object, in order."""
    return torch.arange(len(shares))


class Source(ABC):
    """One split of a dataset. Sources are picklable: the loader's workers read from their own copies.

    Attributes:
        ids: Per image, a name that is unique in the dataset.
    """

    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """One image with the objects that ``choose`` picks; the masks of the others are not decoded.

        Nor is the image without ``with_image``: the sample then has its size but no channel of it.

        Raises:
            InputError: If a file is missing, unreadable or inconsistent; the message names it.
        """

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """What tells an image from any other that its id may have stood for; known without decoding it."""

    def identity(self, index: int) -> str:
        """What an image and its copies elsewhere have in common, and no others; known without decoding it."""
        return f"{self.ids[index]}: {self.fingerprint(index)}"

    def some(self, number: int) -> Source:
        """Up to this many of the images, always the same, in order; the source itself if it has no more."""
        return self if len(self) <= number else _Some(self, number)

    def problems(self, index: int) -> list[str]:
        """What is wrong with one image and its masks, each with the file and the remedy; empty if nothing is."""
        return []


class _Some(Source):
    """Some images of another source, chosen as if at random: even steps could meet the first slice of every volume."""

    def __init__(self, source: Source, number: int) -> None:
        self.source = source
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
        self.indices: list[int] = order[:number].sort().values.tolist()
        self.ids = tuple(source.ids[index] for index in self.indices)

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`Source.read`."""
        return self.source.read(self.indices[index], choose, with_image)

    def fingerprint(self, index: int) -> str:
        """See :meth:`Source.fingerprint`."""
        return self.source.fingerprint(self.indices[index])

    def identity(self, index: int) -> str:
        """See :meth:`Source.identity`."""
        return self.source.identity(self.indices[index])

    def problems(self, index: int) -> list[str]:
        """See :meth:`Source.problems`."""
        return self.source.problems(self.indices[index])
