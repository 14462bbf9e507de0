"""Finds the image files that annotations speak of, whatever the tool that exported them put before their names."""

from __future__ import annotations

import os.path
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import NamedTuple

_SAMPLE = 500  # names that are looked at to find the folder
_HASH = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's, before the name a file was uploaded with
_ABSOLUTE = re.compile(r"^(/|[a-zA-Z]:/|~)")


class Place(NamedTuple):
    """Where the files of one annotation file are.

    Attributes:
        folder: The folder, below the root, with ``/`` at its end; empty for the root.
        num_prefix: How many folders at the beginning of each name are not there.
        has_hash: Whether the last part of each name begins with a hash that the file does not have.
    """

    folder: str
    num_prefix: int = 0
    has_hash: bool = False

    def of(self, name: str) -> str:
        """Return the file of a name, below the root."""
        *folders, last = name.split("/")
        return self.folder + "/".join([*folders[self.num_prefix :], _HASH.sub("", last) if self.has_hash else last])


class ImageFiles:
    """The files below a root, by name.

    Args:
        files: All of them, with ``/``.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self.files = set(files)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            self.by_name[file.rpartition("/")[2]].append(file)

    def find_place(self, names: Sequence[str], json: str) -> Place:
        """Return the place where most of the names are, of several the nearest to the annotation file.

        Args:
            names: Of images.
            json: The annotation file below the root.
        """
        some = [names[row] for row in range(0, len(names), max(1, len(names) // _SAMPLE))]
        folders = [name.split("/")[:-1] for name in some]
        shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False)))
        votes: Counter[Place] = Counter()
        for has_hash in (False, True):
            for name in some:
                for count in range(shared + 1):
                    rest = Place("", count, has_hash).of(name)
                    for file in self.by_name.get(rest.rpartition("/")[2], ()):
                        if file == rest or file.endswith(f"/{rest}"):
                            votes[Place(file[: len(file) - len(rest)], count, has_hash)] += 1
            if votes:
                return min(votes, key=lambda place: (-votes[place], place.num_prefix, *_distance(place.folder, json)))
        return Place(json.rpartition("/")[0] + "/" if "/" in json else "")

    def find(self, name: str, place: Place) -> list[str]:
        """Return the files that a name may mean: the one at the place or, if it is not there, any of this name."""
        file = place.of(name)
        if file in self.files:
            return [file]
        rest = Place("", place.num_prefix, place.has_hash).of(name)
        others = self.by_name.get(rest.rpartition("/")[2], ())
        return sorted(other for other in others if other == rest or other.endswith(f"/{rest}"))


def leads_out(name: str) -> bool:
    """Tell whether a name is absolute or goes up."""
    return bool(_ABSOLUTE.match(name)) or ".." in PurePosixPath(name).parts


def _distance(folder: str, json: str) -> tuple[bool, int, str]:
    """Order folders by whether the annotation file is called after them, then by how far they are from it."""
    parts = folder.lower().strip("/").split("/")
    is_namesake = parts[-1] != "" and parts[-1] in json.rpartition("/")[2].lower()
    away = os.path.relpath(folder or ".", json.rpartition("/")[0] or ".")
    return not is_namesake, len(PurePosixPath(away).parts), folder
