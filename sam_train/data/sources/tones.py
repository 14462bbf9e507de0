"""The rule by which stored numbers of any depth and any number of bands become 8-bit red, green and blue.

``channels`` choose bands; then either a window's ends, or two percentiles, become 0 and 255. Bands that are chosen are
stretched each by itself, colors together. One rule for images, tables, arrays and volumes, in training, evaluation and
prediction; a run keeps it in its record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from sam_train.errors import FileError, InputError, Problem

WINDOWS: dict[str, tuple[float, float]] = {
    "soft_tissue": (-160, 240),  # level 40, width 400, as MedSAM prepares CT (Ma et al., 2024)
    "lung": (-1350, 150),  # level -600, width 1500
    "bone": (-500, 1300),  # level 400, width 1800
    "brain": (0, 80),  # level 40, width 80
}
"""Lowest and highest number that are told apart, in Hounsfield units; widths and levels are radiology's usual ones."""

PERCENTILES = (0.5, 99.5)
"""Which become black and white where nothing else is said, as MedSAM prepares its data (Ma et al., 2024)."""

Window = tuple[float, float]
WindowSetting = str | Sequence[float] | Sequence[Sequence[float]] | None


@dataclass(frozen=True)
class Tones:
    """How stored numbers become 8 bits.

    Attributes:
        channels: Numbers of the bands that are shown, from 1: one, or three that become red, green and blue. Empty for
            the colors or the gray that a file says it has.
        windows: What becomes 0 and 255, of all bands or of each; empty to take it from the numbers.
        percentiles: Of an image's numbers, which become 0 and 255 where there is no window. None for those of
            :data:`PERCENTILES` where there are more than 8 bits.
    """

    channels: tuple[int, ...] = ()
    windows: tuple[Window, ...] = ()
    percentiles: tuple[float, float] | None = None

    def chosen(self, bands: Shaped[np.ndarray, "*shape c"], path: Path) -> Shaped[np.ndarray, "*shape k"]:
        """Return the bands that are shown.

        Raises:
            FileError: If there are not so many.
        """
        if not self.channels:
            return bands
        if max(self.channels) > bands.shape[-1]:
            found = f"has {bands.shape[-1]} bands, of which data.channels={list(self.channels)} asks for another"
            raise FileError(Problem("too few bands", path, found, "name bands from 1 on that all files have"))
        return bands[..., [channel - 1 for channel in self.channels]]

    def groups(self, bands: Shaped[np.ndarray, "*shape c"]) -> list[Shaped[np.ndarray, "*shape _"]]:
        """Return the bands that are stretched together: each chosen one alone, or all."""
        return [bands[..., [band]] for band in range(bands.shape[-1])] if self.channels else [bands]

    def window(self, band: int) -> Window | None:
        """Return the ends of one of :meth:`groups`; None to take them from its numbers."""
        return self.windows[band % len(self.windows)] if self.windows else None


def tones_of(channels: Sequence[int], window: WindowSetting, percentiles: Sequence[float] | None) -> Tones:
    """Return the rule of three settings.

    Raises:
        InputError: If a value is none that it can have, or they do not fit each other.
    """
    is_list = isinstance(channels, Sequence) and not isinstance(channels, str)
    if not is_list or len(channels) not in (0, 1, 3) or not all(type(one) is int and one > 0 for one in channels):
        found = list(channels) if is_list else channels
        raise InputError(f"data.channels={found}: expected one or three numbers of bands, counted from 1, as [3,2,1]")
    if percentiles is not None and (len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100):
        raise InputError(f"data.percentiles={list(percentiles)}: expected two from 0 to 100, as [0.5,99.5]")
    windows = _windows_of(window)
    if len(windows) > 1 and len(windows) != len(channels):
        found = f"{len(windows)} windows for data.channels={list(channels)}"
        raise InputError(f"data.window: {found}; give one for all, or one for each")
    ends = None if percentiles is None else (float(percentiles[0]), float(percentiles[1]))
    return Tones(tuple(channels), windows, ends)


def _windows_of(window: WindowSetting) -> tuple[Window, ...]:
    if window is None:
        return ()
    if not isinstance(window, str) and len(window) and not isinstance(window[0], (int, float)):
        return tuple(window_of(one) for one in window)  # pyright: ignore[reportArgumentType]
    return (window_of(window),)  # pyright: ignore[reportArgumentType]


def window_of(name: str | Sequence[float]) -> Window:
    """Return the window of a name, or of two numbers.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(name, str):
        if name not in WINDOWS:
            raise InputError(f"data.window={name}: expected {', '.join(WINDOWS)} or two numbers, as [-160,240]")
        return WINDOWS[name]
    if len(name) != 2 or not name[0] < name[1]:
        raise InputError(f"data.window={list(name)}: expected the lower and the higher number, as [-160,240]")
    return name[0], name[1]


def ends_of(numbers: Shaped[np.ndarray, "*shape"], percentiles: tuple[float, float]) -> Window:
    """Return the percentiles of finite numbers, or the lowest and the highest where these are the same."""
    if numbers.dtype == np.uint16:  # each number once, weighted by how often it is there
        return _ends_of_counts(np.bincount(numbers.ravel(), minlength=1 << 16), percentiles)
    low, high = np.percentile(numbers.astype(np.float64), percentiles).tolist()
    return (low, high) if low < high else (float(numbers.min()), float(numbers.max()))


def _ends_of_counts(counts: Shaped[np.ndarray, "v"], percentiles: tuple[float, float]) -> Window:
    """Return the same where the number v is there ``counts[v]`` times; as ``np.percentile``."""
    ends = counts.cumsum()
    places = (ends[-1] - 1) * np.array(percentiles) / 100
    below = np.searchsorted(ends, np.floor(places), side="right")
    above = np.searchsorted(ends, np.ceil(places), side="right")
    low, high = (below + (above - below) * (places % 1)).tolist()
    if low == high:
        low, high = counts.nonzero()[0][[0, -1]].tolist()
    return float(low), float(high)


def stretched(numbers: Shaped[np.ndarray, "*shape"], ends: Window) -> UInt8[np.ndarray, "*shape"]:
    """Return 0 for what is at the low end or below, 255 for what is at the high end or above; 0 for no number."""
    if numbers.dtype == np.uint16:
        return _stretched_part(np.arange(1 << 16), ends)[numbers]
    result = np.empty(numbers.shape, np.uint8)
    for index in range(len(numbers)):  # part by part: the whole in floating point would be many times the array
        result[index] = _stretched_part(numbers[index], ends)
    return result


def _stretched_part(numbers: Shaped[np.ndarray, "*shape"], ends: Window) -> Shaped[np.ndarray, "*shape"]:
    low, high = ends
    is_short = numbers.dtype.itemsize <= 2 or numbers.dtype == np.float32
    part = np.clip(numbers.astype(np.float32 if is_short else np.float64), low, high) - low
    return np.rint(np.nan_to_num(part * (255 / (high - low) if high > low else 0.0))).astype(np.uint8)


def known_tones(values: Mapping[str, object] | None) -> Tones:
    """Return the rule of a run's or an export's plain values; the plain rule where they say nothing."""
    values = values or {}
    return tones_of(
        values.get("channels") or (),  # pyright: ignore[reportArgumentType]
        values.get("window"),  # pyright: ignore[reportArgumentType]
        values.get("percentiles"),  # pyright: ignore[reportArgumentType]
    )
