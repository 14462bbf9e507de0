"""The contract of a data source: what a new kind of data must provide, and what it may."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sam_train.errors import FileError, Problem
from sam_train.structures import Sample

if TYPE_CHECKING:
    from sam_train.data.sources.video.clips import ClipSet

Split = Literal["train", "val", "test"]

Choose = Callable[[Float[Tensor, "n"]], Int[Tensor, "k"]]
"""From the areas of an image's objects to the indices of the objects to read.

Areas are shares of the image: nan where that is not known without decoding, and 0 for a crowd, which is read in
evaluation but must not take the place of an object that trains."""


def all_objects(shares: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Choose every object, in order."""
    return torch.arange(len(shares))


def no_objects(shares: Float[Tensor, "n"]) -> Int[Tensor, "0"]:
    """Choose no object: only the image is wanted."""
    return torch.arange(0)


class VolumeSlice(NamedTuple):
    """Where an image lies in a volume.

    Attributes:
        volume: Name of the volume.
        place: Number of the slice in it, from 0.
        spacing: Distance in mm from one slice, row and column to the next; None where it is unknown.
    """

    volume: str
    place: int
    spacing: tuple[float, float, float] | None


def pixel_hash(image: UInt8[Tensor, "c h w"]) -> str:
    """Return a hash of an image's size and pixels."""
    content = f"{tuple(image.shape)}".encode() + image.contiguous().numpy().tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class ImageSet(ABC):
    """Images of one split, read lazily. Image sets are picklable: loading processes read from their own copies.

    A subclass must have :attr:`ids` and :meth:`read`. Everything else has a default that is right for any data but may
    be slow, to be overridden where there is a shorter way.

    Attributes:
        ids: Per image, a name that is unique in the data source.
        categories: Names of all categories, in order; empty where objects have none.
        loose_ends: Problems that belong to no image; :meth:`problems` returns them with those of the first.
        weights: Where images of several sources are put together, the weight of each; empty where none was given.
    """

    ids: Sequence[str]
    categories: Sequence[str] = ()
    loose_ends: Sequence[Problem] = ()
    weights: Mapping[str, float] = MappingProxyType({})

    @property
    def epoch_size(self) -> int:
        """Number of images that an epoch shows; the length of :meth:`shuffled`."""
        return len(self)

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """Read one image with the objects that ``choose`` picks; the masks of the others need not be decoded.

        Without ``with_image`` the image need not be decoded either: the sample then has its size but no channel.

        Raises:
            FileError: If a file is missing, unreadable or inconsistent.
        """

    def identity(self, index: int) -> str:
        """Return what an image has in common with its copies, under whatever name, and with no other image.

        Images of one identity in two splits are refused. By default this is a hash of the decoded pixels.
        """
        return pixel_hash(self.read(index, no_objects).image)

    def fingerprint(self, index: int) -> str:
        """Return what changes when the image's pixels change; cached features are found by this and the id."""
        return self.identity(index)

    def stored(self, index: int) -> bytes | None:
        """Return the content of the file that holds this image alone, with all its bits; None where there is none.

        By default there is none, as of a slice or of an image that is drawn.

        Raises:
            FileError: If it cannot be read.
        """
        return None

    def group(self, index: int) -> str:
        """Return the patient, slide or video of an image: never in two splits, and the unit of confidence intervals."""
        return self.ids[index]

    def slice_of(self, index: int) -> VolumeSlice | None:
        """Return where an image lies in the volume it is a slice of; None if it is of none."""
        return None

    def as_clips(self) -> ClipSet | None:
        """Return the images as clips that objects can be followed through; None if they are none."""
        return None

    def by_source(self) -> Mapping[str, ImageSet]:
        """Return the images of each source, by its name, where those of several are put together; else nothing."""
        return {}

    def alike(self, index: int) -> range:
        """Return the images of which one takes the place of an image that cannot train."""
        return range(len(self))

    def problems(self, index: int) -> list[Problem]:
        """Find what is wrong with one image and its masks; by default what reading them raises.

        Answers to what is asked of the whole set (:mod:`sam_train.data.sources.doubts`) may be among the problems.
        """
        try:
            self.read(index)
        except FileError as error:
            return [error.problem]
        return []

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """Return the indices of :attr:`epoch_size` images, all but for weights, in the order an epoch shows them.

        By default every order is as likely as any. A set of slices keeps those of a volume together.
        """
        return torch.randperm(len(self), generator=generator)

    def some(self, number: int) -> ImageSet:
        """Return up to this many of the images, always the same, in order; the set itself if it has no more.

        Images are chosen as if at random: even steps could meet the first slice of every volume.
        """
        if len(self) <= number:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return ImageSubset(self, order[:number].sort().values.tolist())


class ImageSubset(ImageSet):
    """Some images of another set.

    Args:
        images: The other set.
        indices: Indices into the other set, in the order wanted.
    """

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        self.images = images
        self.indices = indices
        self.ids = tuple(images.ids[index] for index in indices)
        self.categories = images.categories

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`."""
        return self.images.read(self.indices[index], choose, with_image)

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        return self.images.identity(self.indices[index])

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`."""
        return self.images.fingerprint(self.indices[index])

    def stored(self, index: int) -> bytes | None:
        """See :meth:`ImageSet.stored`."""
        return self.images.stored(self.indices[index])

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        return self.images.group(self.indices[index])

    def slice_of(self, index: int) -> VolumeSlice | None:
        """See :meth:`ImageSet.slice_of`."""
        return self.images.slice_of(self.indices[index])

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`."""
        return self.images.problems(self.indices[index])


class DataSource(ABC):
    """A kind of data, as a configuration names it: a frozen dataclass of plain values that knows its splits.

    A subclass is known from the moment its module is imported: checkpoints that were trained on it can then be
    evaluated, resumed and exported.

    Attributes:
        check: Whether all files are read and checked before training.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        default_steps: Number of training steps where no setting gives one.
        default_objects: Number of objects of an image that train in one step, where no setting gives one.
    """

    check: bool = True
    on_error: str = "stop"
    default_steps: ClassVar[int] = 1000
    default_objects: ClassVar[int] = 16

    @property
    def is_strict(self) -> bool:
        """Whether a problem must be told as soon as it is found: no check will tell it with the others."""
        return not self.check and self.on_error == "stop"

    @abstractmethod
    def splits(self) -> dict[Split, ImageSet]:
        """Return the images of each split that has any; files are listed, not opened.

        :func:`sam_train.data.sources.splits.split_by_group` makes splits by shares.

        Raises:
            InputError: If the settings do not fit the data.
        """

    def settled(self) -> DataSource:
        """Return the source with what a run computes once from its training images as settings, for its record.

        By default there is nothing to compute.

        Raises:
            InputError: If it cannot be computed.
        """
        return self
