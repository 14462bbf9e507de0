"""Records of images and JSON, wherever they lie: each is read alone, in any order."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int, UInt32
from rich.console import Console
from rich.progress import track

from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.file_identity import file_fingerprint, file_identity
from sam_train.data.sources.packed_texts import MadeTexts, PackedTexts
from sam_train.data.sources.sa1b.tar_index import BLOCK, IMAGE_SUFFIXES, TarIndex, find_records
from sam_train.errors import FileError, Problem
from sam_train.machine import num_processors

_MIDDLE = 1 << 12  # bytes of a compressed image that no other image has


class Records(ABC):
    """Images and what JSON says of them.

    Attributes:
        ids: Per record its name, unique among all.
        shard: Per record the number of the large file it lies in; all 0 where each is a file of its own.
        problems: What is wrong beside the records.
    """

    ids: Sequence[str]
    shard: Int[np.ndarray, "n"]
    problems: Sequence[Problem]

    @abstractmethod
    def image(self, index: int) -> tuple[Path, bytes | None]:
        """Return the name of an image in messages, and its bytes; None where the name is a file's."""

    @abstractmethod
    def json(self, index: int) -> tuple[Path, bytes]:
        """Return the name of a record's JSON in messages, and its bytes."""

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """Return what changes when an image does."""

    @abstractmethod
    def identity(self, index: int) -> str:
        """Return what an image shares with its copies alone."""


class FileRecords(Records):
    """Records of a folder.

    Args:
        root: The folder.
        names: Of all files below it, with ``/``.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        images: dict[str, str] = {}
        jsons: set[str] = set()
        twice: list[Problem] = []
        for path in map(PurePosixPath, names):
            key = path.with_suffix("").as_posix()
            if path.suffix.lower() in SUFFIXES:
                if images.setdefault(key, path.suffix) != path.suffix:
                    found = f"{key} is there as {images[key]} and as {path.suffix}"
                    twice.append(Problem("repeated key", root / path, found, "keep one of them"))
            elif path.suffix == ".json":
                jsons.add(key)
        keys = sorted(images.keys() & jsons)
        self.root = root
        self.ids = PackedTexts(keys)
        self._suffixes = PackedTexts(images[key] for key in keys)
        self.shard = np.zeros(len(keys), np.int32)
        remedy = "add the other file, or take this one out"
        alone = [root / f"{key}{images[key]}" for key in sorted(images.keys() - jsons)]
        alone += [root / f"{key}.json" for key in sorted(jsons - images.keys())]
        lonely = [Problem("image or JSON alone", path, "no other file has this name", remedy) for path in alone]
        self.problems = (*twice, *lonely)

    def image(self, index: int) -> tuple[Path, bytes | None]:
        """See :meth:`Records.image`."""
        return self.root / f"{self.ids[index]}{self._suffixes[index]}", None

    def json(self, index: int) -> tuple[Path, bytes]:
        """See :meth:`Records.json`."""
        path = self.root / f"{self.ids[index]}.json"
        try:
            return path, path.read_bytes()
        except OSError as error:
            raise FileError(Problem("unreadable file", path, str(error.strerror), "put it back")) from error

    def fingerprint(self, index: int) -> str:
        """See :meth:`Records.fingerprint`."""
        return file_fingerprint(self.image(index)[0])

    def identity(self, index: int) -> str:
        """See :meth:`Records.identity`."""
        return file_identity(self.image(index)[0])


class TarRecords(Records):
    """Records of tars, known by where they begin: 34 bytes each with a name of 10, which processes share.

    Args:
        root: The folder of all tars.
        names: Of the tars below it.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        self.names = tuple(names)
        found = _find_all([root / name for name in names])
        counts = [len(index.keys) for index in found]
        self.shard = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        self.spans: UInt32[np.ndarray, "n 4"] = np.concatenate([index.spans for index in found])
        self._suffixes = np.concatenate([index.suffixes for index in found])
        self._keys = PackedTexts.join([index.keys for index in found])
        self.ids = _TarIds([name.removesuffix(".tar") for name in names], self.shard, self._keys)
        self.problems = [problem for index in found for problem in index.problems]

    def image(self, index: int) -> tuple[Path, bytes]:
        """See :meth:`Records.image`."""
        size = int(self.spans[index, 1])
        return self._name(index, IMAGE_SUFFIXES[self._suffixes[index]]), self._bytes(index, 0, 0, size)

    def json(self, index: int) -> tuple[Path, bytes]:
        """See :meth:`Records.json`."""
        return self._name(index, ".json"), self._bytes(index, 2, 0, int(self.spans[index, 3]))

    def fingerprint(self, index: int) -> str:
        """See :meth:`Records.fingerprint`: the tar's, and the place in it."""
        return f"{file_fingerprint(self._tar(index))} {self.spans[index, :2].tolist()}"

    def identity(self, index: int) -> str:
        """See :meth:`Records.identity`: the size and a hash of the middle of what is compressed."""
        size = int(self.spans[index, 1])
        start = max((size - _MIDDLE) // 2, 0)
        middle = self._bytes(index, 0, start, min(_MIDDLE, size - start))
        return f"{size} {hashlib.blake2b(middle, digest_size=16).hexdigest()}"

    def _tar(self, index: int) -> Path:
        return self.root / self.names[self.shard[index]]

    def _name(self, index: int, suffix: str) -> Path:
        return self._tar(index) / f"{self._keys[index]}{suffix}"

    def _bytes(self, index: int, column: int, start: int, count: int) -> bytes:
        """Return some bytes of the file that begins at the block in a column of the spans."""
        path = self._tar(index)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.spans[index, column]) * BLOCK + start)
                content = file.read(count)
        except OSError as error:
            raise FileError(Problem("unreadable tar", path, str(error.strerror), "put it back")) from error
        if len(content) < count:
            found = f"ends within {self._keys[index]}"
            raise FileError(Problem("truncated tar", path, found, "copy it anew"))
        return content


class _TarIds(MadeTexts):
    """Names of records after those of their tars, made on access."""

    def __init__(self, tars: Sequence[str], shard: Int[np.ndarray, "n"], keys: PackedTexts) -> None:
        self.tars = tars
        self.shard = shard
        self.keys = keys

    def __len__(self) -> int:
        return len(self.shard)

    def made(self, position: int) -> str:
        """See :meth:`MadeTexts.made`."""
        return f"{self.tars[self.shard[position]]}/{self.keys[position]}"


def _find_all(paths: Sequence[Path]) -> list[TarIndex]:
    """Read the headers of all tars, several at once, with a bar on a terminal."""
    console = Console(stderr=True)
    with ThreadPoolExecutor(min(num_processors(), 8)) as pool:  # they mostly wait for the disk
        found = pool.map(_find, paths)
        hidden = not console.is_terminal
        return list(track(found, "indexing tars", len(paths), console=console, transient=True, disable=hidden))


def _find(path: Path) -> TarIndex:
    try:
        return find_records(path)
    except FileError as error:
        return TarIndex(PackedTexts(()), np.zeros((0, 4), np.uint32), np.zeros(0, np.uint8), (error.problem,))
