"""Millions of texts in two arrays, which processes share: a list of texts would be copied by each, page after page."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class MadeTexts(Sequence[str]):
    """Texts that are made on access."""

    @abstractmethod
    def made(self, position: int) -> str:
        """Return one, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.made(position) for position in range(*index.indices(len(self)))]
        return self.made(range(len(self))[index])


class PackedTexts(MadeTexts):
    """Texts in two arrays."""

    def __init__(self, texts: Iterable[str]) -> None:
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        self.ends = np.cumsum([0, *map(len, parts)])
        self.content = np.frombuffer(b"".join(parts), np.uint8)

    @classmethod
    def of(cls, content: np.ndarray, ends: np.ndarray) -> PackedTexts:
        """Return texts from the arrays of others."""
        texts = cls(())
        texts.content, texts.ends = content, ends
        return texts

    @classmethod
    def join(cls, parts: Sequence[PackedTexts]) -> PackedTexts:
        """Return the texts of all parts."""
        starts = np.cumsum([0, *(part.ends[-1] for part in parts)])
        ends = [part.ends[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
        return cls.of(np.concatenate([part.content for part in parts]), np.concatenate([[0], *ends]))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def made(self, position: int) -> str:
        """See :meth:`MadeTexts.made`."""
        start, end = self.ends[position : position + 2]
        return self.content[start:end].tobytes().decode("utf-8", "surrogatepass")
