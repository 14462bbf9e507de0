"""Where the records of a tar lie, so that each can be read alone and in any order."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt32

from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.errors import FileError, Problem
from sam_train.files import written_whole

BLOCK = tarfile.BLOCKSIZE
"""Bytes of a tar's block: every member begins with one, so that 4 bytes say where in a tar of up to 2 TB."""
_VERSION = 1  # of stored indexes
_MOST_PROBLEMS = 1000  # told of a tar: a screen shows ten
_COPY = "copy the tar anew, or write it anew with tar -cf"


@dataclass(frozen=True)
class TarIndex:
    """Records of one tar: an image and a JSON file of the same name.

    Attributes:
        keys: Names of the records: those of the files without suffix.
        spans: Of each record the block its image begins at and the image's bytes, and the same of its JSON.
        suffixes: Of each record the number of its image's suffix in :data:`IMAGE_SUFFIXES`.
        problems: What is wrong with the tar, beside its records.
    """

    keys: PackedTexts
    spans: UInt32[np.ndarray, "n 4"]
    suffixes: np.ndarray
    problems: tuple[Problem, ...]


IMAGE_SUFFIXES = tuple(sorted(SUFFIXES))


def find_records(path: Path) -> TarIndex:
    """Return where the records of a tar lie; read from its headers once, then from a store in the user's cache."""
    stored = _store(path)
    if found := _load(stored, path):
        return found
    index = read_headers(path)
    told = [[problem.kind, problem.found, problem.remedy] for problem in index.problems]
    arrays = {"spans": index.spans, "suffixes": index.suffixes, "texts": index.keys.content, "ends": index.keys.ends}
    with suppress(OSError), written_whole(stored) as temporary:  # without a cache it is read anew
        np.savez(temporary, problems=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    return index


def _store(path: Path) -> Path:
    status = path.stat()
    what = f"{_VERSION} {os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / "sam_train" / "tars" / f"{hashlib.blake2b(what.encode(), digest_size=16).hexdigest()}.npz"


def _load(stored: Path, path: Path) -> TarIndex | None:
    try:
        with np.load(stored, allow_pickle=False) as arrays:
            told = json.loads(arrays["problems"].tobytes())
            keys = PackedTexts.of(arrays["texts"], arrays["ends"])
            problems = tuple(Problem(kind, path, found, remedy) for kind, found, remedy in told)
            return TarIndex(keys, arrays["spans"], arrays["suffixes"], problems)
    except Exception:  # not there, or damaged in any way: it is only a copy
        return None


def read_headers(path: Path) -> TarIndex:
    """Read all headers of a tar. Nothing is unpacked, so that names of members lead nowhere.

    Raises:
        FileError: If it cannot be opened or is no plain tar.
    """
    parts = _Parts(path)
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            try:
                while member := tar.next():
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # which would hold all
                    parts.add(member)
                parts.tell_end(file, tar.offset)
            except tarfile.TarError as error:
                parts.tell("truncated tar", f"{error}, after {parts.last}", _COPY)
    except tarfile.TarError as error:
        raise FileError(_no_tar(path, error)) from error
    except OSError as error:
        raise FileError(Problem("unreadable tar", path, str(error.strerror), "put it back")) from error
    return parts.index()


def _no_tar(path: Path, error: Exception) -> Problem:
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        return Problem("empty file", path, "has no bytes", "copy it anew")
    if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head in (b"\xfd7zX", b"\x28\xb5\x2f\xfd"):
        remedy = "unpack it once (gunzip, unxz, zstd -d): records are read where they lie"
        return Problem("compressed tar", path, "cannot be entered in the middle", remedy)
    return Problem("no tar", path, str(error), _COPY)


class _Parts:
    """Images and JSON files of a tar, as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = "nothing"
        self._images: dict[str, tuple[int, int, int]] = {}
        self._jsons: dict[str, tuple[int, int]] = {}
        self._problems: list[Problem] = []

    def tell(self, kind: str, found: str, remedy: str) -> None:
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(Problem(kind, self.path, found, remedy))

    def add(self, member: tarfile.TarInfo) -> None:
        self.last = name = member.name
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if member.isdir() or path.name.startswith(".") or (suffix not in SUFFIXES and suffix != ".json"):
            return
        if path.is_absolute() or ".." in path.parts or not _is_text(name):
            remedy = "name members by letters, from a folder in the tar on"
            self.tell("name leads out of the tar", f"{name!a} is absolute, goes up or is not UTF-8", remedy)
        elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size >= 1 << 32:
            self.tell("no plain member", f"{name} is a link, a sparse file or huge", "put the file itself there")
        else:
            self._keep(path.with_suffix("").as_posix(), suffix, member)

    def _keep(self, key: str, suffix: str, member: tarfile.TarInfo) -> None:
        kind = self._jsons if suffix == ".json" else self._images
        if key in kind:
            self.tell("repeated key", f"{member.name} is there twice, or as two kinds of image", "keep one of them")
        elif suffix == ".json":
            self._jsons[key] = member.offset_data // BLOCK, member.size
        else:
            self._images[key] = member.offset_data // BLOCK, member.size, IMAGE_SUFFIXES.index(suffix)

    def tell_end(self, file: BinaryIO, offset: int) -> None:
        """Look for the block of zeros after the last member: where tarfile finds no header, it just ends."""
        file.seek(offset)
        block = file.read(BLOCK)
        if not block:
            self.tell("truncated tar", f"ends after {self.last}, without the zeros that end a tar", _COPY)
        elif any(block):
            self.tell("broken member", f"what follows {self.last} at byte {offset} is no member", _COPY)

    def index(self) -> TarIndex:
        for alone, of, lacks in ((self._images, self._jsons, "JSON"), (self._jsons, self._images, "image")):
            for key in sorted(alone.keys() - of.keys()):
                self.tell(f"record without {lacks}", f"{key} has no {lacks}", "add it to the tar, or take both out")
        keys = [key for key in self._images if key in self._jsons]
        return TarIndex(
            PackedTexts(keys),
            np.array([(*self._images[key][:2], *self._jsons[key]) for key in keys], np.uint32).reshape(-1, 4),
            np.array([self._images[key][2] for key in keys], np.uint8),
            tuple(self._problems),
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
