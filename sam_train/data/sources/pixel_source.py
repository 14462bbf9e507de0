"""Settings that say how stored numbers become 8-bit images, and numbers that are taken from a whole training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Shaped

from sam_train.data.sources.base import DataSource
from sam_train.data.sources.tones import PERCENTILES, Tones, Window, WindowSetting, ends_of, tones_of
from sam_train.errors import FileError, InputError

_MOST_READ = 2000  # files: what a percentile needs, and minutes where there are millions of files
_MOST_KEPT = 1 << 22  # numbers of a band, 32 MB

S = TypeVar("S", bound="PixelSource")


@runtime_checkable
class StoredNumbers(Protocol):
    """Images whose stored numbers can be counted."""

    def places(self) -> Sequence[int]:
        """Return indices of images that hold all numbers between them, one for each file."""
        ...

    def numbers(self, index: int) -> list[Shaped[np.ndarray, "n"]]:
        """Return the numbers that count, of each group of bands that are stretched together.

        Raises:
            FileError: If the file cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PixelSource(DataSource):
    """A source of files whose numbers may be of any depth and any number of bands (:mod:`.tones`).

    Attributes:
        channels: Numbers of the bands that are shown, from 1: one, or three that become red, green and blue. Empty for
            the colors or the gray that a file says it has.
        window: What becomes black and white: two numbers, a pair of them for each of the channels, or the name of a CT
            window (``soft_tissue``, ``lung``, ``bone``, ``brain``). None to take it from the numbers.
        percentiles: Of the numbers, which become black and white where there is no window. None for 0.5 and 99.5 where
            there are more than 8 bits.
        percentiles_of: ``image`` for those of each file, or ``set`` for those of all training files together: computed
            once, and from then on the run's window, wherever it is evaluated or predicts.
    """

    channels: Sequence[int] = ()
    window: WindowSetting = None
    percentiles: Sequence[float] | None = None
    percentiles_of: Literal["image", "set"] = "image"

    def tones(self) -> Tones:
        """Return the rule.

        Raises:
            InputError: If a setting has a value that it cannot have.
        """
        if self.percentiles_of not in ("image", "set"):
            raise InputError(f"data.percentiles_of={self.percentiles_of}: expected image or set")
        return tones_of(self.channels, self.window, self.percentiles)

    def settled(self: S) -> S:
        """See :meth:`DataSource.settled`: percentiles of the set become a window."""
        tones = self.tones()
        if self.percentiles_of == "image" or self.window is not None:
            return self
        train = self.splits().get("train")
        if train is None:
            raise InputError("data.percentiles_of=set: there are no training images; say the numbers: data.window=...")
        assert isinstance(train, StoredNumbers)
        skips = self.on_error == "skip"
        return replace(self, window=windows_of_set(train, tones.percentiles or PERCENTILES, skips))


def windows_of_set(images: StoredNumbers, percentiles: tuple[float, float], skips: bool = False) -> tuple[Window, ...]:
    """Return the percentiles of the numbers of all images, of each group of bands.

    Exact while the images have no more than some millions of pixels; of more, as many numbers are drawn of each of up
    to 2,000 images, always the same. Memory is bounded whatever the number of images. With
    ``skips``, files that cannot be read are left out.
    """
    places = images.places()
    if len(places) > _MOST_READ:
        chosen = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[:_MOST_READ]
        places = [places[row] for row in chosen.sort().values.tolist()]
    kept: list[list[np.ndarray]] = []
    for index in places:
        try:
            groups = images.numbers(index)
        except FileError:
            if skips:
                continue
            raise
        kept = kept or [[] for _ in groups]
        for group, numbers in zip(kept, groups, strict=True):
            group.append(_drawn(numbers, _MOST_KEPT // len(places), seed=index))
    if not kept or not all(sum(map(len, group)) for group in kept):
        raise InputError("data.percentiles_of=set: a band of the training images has no number; see data.channels")
    return tuple(ends_of(np.concatenate(group), percentiles) for group in kept)


def _drawn(numbers: Shaped[np.ndarray, "n"], most: int, seed: int) -> Shaped[np.ndarray, "k"]:
    if len(numbers) <= most:
        return numbers
    return numbers[np.random.default_rng(seed).integers(0, len(numbers), most)]
