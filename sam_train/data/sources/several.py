"""Several sources in one run, as ``data=mixture`` names them."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.data.sources.base import Choose, DataSource, ImageSet, Split, VolumeSlice, all_objects
from sam_train.data.sources.packed_texts import MadeTexts
from sam_train.data.sources.shares import Shares
from sam_train.data.sources.splits import SPLITS, complete_splits
from sam_train.errors import FileError, InputError, Problem
from sam_train.limits import POSITIVE
from sam_train.structures import Sample


@dataclass(frozen=True)
class SeveralSources(DataSource):
    """Images of several sources, each with splits of its own; scores are also reported apart.

    Without weights, an epoch shows every training image once. With weights, these are the sources' shares of the
    training images; an epoch ends as soon as one source was shown whole, and of each other one it shows a part, drawn
    anew.

    Attributes:
        parts: Name of each source to the source.
        weights: Of each source its share of the training images, beside those of the others; none for all images.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    parts: Mapping[str, DataSource]
    weights: Mapping[str, float] = field(default_factory=dict)
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that any source has images for.

        Raises:
            InputError: If there is no source, or if settings of one do not fit its data.
        """
        self._require_parts()
        found = {name: _splits_of(name, source) for name, source in self.parts.items()}
        splits: dict[Split, ImageSet] = {}
        for split in SPLITS:
            if parts := {name: images[split] for name, images in found.items() if split in images}:
                weights = {name: self.weights[name] for name in parts} if self.weights and split == "train" else {}
                splits[split] = SeveralImages(parts, weights)
        if "test" in splits and (untested := [name for name, images in found.items() if "test" not in images]):
            warnings.warn(
                f"data.parts: {', '.join(untested)} have no images for the test, and are not in its scores; "
                "evaluation.split=val scores their validation images",
                stacklevel=2,
            )
        return complete_splits(splits, "data.parts")

    @property
    def default_objects(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of objects of an image that train in one step: the fewest that any source suggests."""
        return min((source.default_objects for source in self.parts.values()), default=DataSource.default_objects)

    def settled(self) -> SeveralSources:
        """See :meth:`DataSource.settled`: of each source its own."""
        return replace(self, parts={name: source.settled() for name, source in self.parts.items()})

    def _require_parts(self) -> None:
        if not self.parts:
            raise InputError(
                "data.parts: no source is named; give each a name, a kind and its settings, such as "
                "data.parts.leaves.kind=folder data.parts.leaves.root=leaves"
            )
        if wrong := [name for name in self.parts if "/" in name or not name]:
            raise InputError(f"data.parts.{wrong[0]}: a name without '/' is wanted, since images are called after it")
        if lacking := sorted(set(self.parts) ^ set(self.weights)) if self.weights else []:
            raise InputError(f"data.parts: {lacking[0]} has no weight, others have; give all of them one, or none")
        for name, weight in self.weights.items():
            if not POSITIVE.allows(weight):
                raise InputError(f"data.parts.{name}.weight={weight}: expected {POSITIVE.words}")


def _splits_of(name: str, source: DataSource) -> dict[Split, ImageSet]:
    """Return the splits of one source; validation images do not stand in for a test beside the tests of others."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*those of val serve for it")
            splits = source.splits()
    except FileError:
        raise
    except InputError as error:
        raise InputError(f"data.parts.{name}: {error}") from error
    if splits.get("test") is splits.get("val"):
        splits.pop("test", None)
    return splits


class SeveralImages(ImageSet):
    """One split of several sources, one after the other.

    Args:
        parts: Name of each source to its images.
        weights: Of each source its share of an epoch, beside those of the others; none to show every image.
    """

    def __init__(self, parts: Mapping[str, ImageSet], weights: Mapping[str, float]) -> None:
        self.names = tuple(parts)
        self.parts = tuple(parts.values())
        self.starts = (0, *accumulate(len(images) for images in self.parts))
        self.ids = _Ids(self)
        self.categories = tuple(dict.fromkeys(name for images in self.parts for name in images.categories))
        self.loose_ends = tuple(problem for images in self.parts for problem in images.loose_ends)
        self.weights = weights
        self.shares = Shares([len(images) for images in self.parts], [weights[name] for name in parts if weights])

    @property
    def epoch_size(self) -> int:
        """Number of images of an epoch: no source is shown more than once."""
        return self.shares.num_turns

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, index: int, choose: Choose = all_objects, with_image: bool = True) -> Sample:
        """See :meth:`ImageSet.read`."""
        part, row = self.find(index)
        sample = self.parts[part].read(row, choose, with_image)
        group = sample.group and f"{self.names[part]}/{sample.group}"
        return replace(sample, id=self.ids[index], group=group, source=self.names[part])

    def identity(self, index: int) -> str:
        """See :meth:`ImageSet.identity`."""
        part, row = self.find(index)
        return self.parts[part].identity(row)

    def fingerprint(self, index: int) -> str:
        """See :meth:`ImageSet.fingerprint`."""
        part, row = self.find(index)
        return self.parts[part].fingerprint(row)

    def stored(self, index: int) -> bytes | None:
        """See :meth:`ImageSet.stored`."""
        part, row = self.find(index)
        return self.parts[part].stored(row)

    def group(self, index: int) -> str:
        """See :meth:`ImageSet.group`."""
        part, row = self.find(index)
        return f"{self.names[part]}/{self.parts[part].group(row)}"

    def slice_of(self, index: int) -> VolumeSlice | None:
        """See :meth:`ImageSet.slice_of`."""
        part, row = self.find(index)
        found = self.parts[part].slice_of(row)
        return found and found._replace(volume=f"{self.names[part]}/{found.volume}")

    def problems(self, index: int) -> list[Problem]:
        """See :meth:`ImageSet.problems`."""
        part, row = self.find(index)
        return self.parts[part].problems(row)

    def alike(self, index: int) -> range:
        """See :meth:`ImageSet.alike`: the images of the same source."""
        part, _ = self.find(index)
        return range(self.starts[part], self.starts[part + 1])

    def shuffled(self, generator: torch.Generator) -> Int[Tensor, "n"]:
        """See :meth:`ImageSet.shuffled`: each source in an order of its own, of which the first ones are mixed."""
        turns = self.shares.turns(generator)
        order = torch.empty_like(turns)
        for part, (images, start) in enumerate(zip(self.parts, self.starts, strict=False)):
            own = turns == part
            order[own] = images.shuffled(generator)[: int(own.sum())] + start
        return order

    def by_source(self) -> Mapping[str, ImageSet]:
        """See :meth:`ImageSet.by_source`."""
        return dict(zip(self.names, self.parts, strict=True))

    def find(self, index: int) -> tuple[int, int]:
        """Return the number of an image's source, and the image's index there."""
        part = bisect_right(self.starts, range(len(self))[index]) - 1
        return part, index - self.starts[part]


class _Ids(MadeTexts):
    """Names of images after those of their sources."""

    def __init__(self, images: SeveralImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def made(self, position: int) -> str:
        """See :meth:`MadeTexts.made`."""
        part, row = self.images.find(position)
        return f"{self.images.names[part]}/{self.images.parts[part].ids[row]}"
