"""Mistakes that a person can mend, as data and as text. Imports nothing heavy: the first error is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class InputError(ValueError):
    """A mistake in what a person gave us; the message names it and the remedy, and is shown without a traceback."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        kind: A few words, the same for all problems of the kind.
        path: The file to look at.
        found: What is there, and what should be.
        remedy: What to do about it.
    """

    kind: str
    path: Path
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.found}; {self.remedy}"


class FileError(InputError):
    """A file that cannot be used.

    Attributes:
        problem: What is wrong with it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[FileError], tuple[Problem]]:
        return type(self), (self.problem,)
