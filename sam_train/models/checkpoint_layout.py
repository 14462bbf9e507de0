"""Declarations of an image encoder about the files that its weights are stored in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class PositionTable:
    """A tensor of positions that belongs to one size of input, and how it is resized for another.

    Attributes:
        image_size: Side in pixels of the input that the encoder's own table is made for.
        shape: Returns the table's shape for an input of this side.
        resize: Returns the table for an input of this side, exactly as the encoder itself resizes it.
    """

    image_size: int
    shape: Callable[[int], tuple[int, ...]]
    resize: Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class HuggingFaceEncoder:
    """How ``transformers`` stores an image encoder.

    Attributes:
        renames: Beginnings of the encoder's parameter names and what ``transformers`` calls them below
            ``vision_encoder``; the first that matches counts, ``{}`` stands for a number. A name without a match is
            the same in both.
        vision_config: The encoder's own entries of ``vision_config`` in config.json.
    """

    renames: Mapping[str, str]
    vision_config: Mapping[str, Any]
