"""Rows of parquet files, read where they lie: without the copy that the library ``datasets`` makes of them."""

from __future__ import annotations

import copy
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from sam_train.data.sources.base import Split
from sam_train.data.sources.safe_walk import walk_files
from sam_train.errors import FileError, InputError, Problem

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = {"val": "validation"}  # as the library calls it
OPEN_GROUPS = 4
"""Row groups that a process holds, and whose rows are mixed; `datasets` writes 100 images into one."""


class ParquetTable:
    """Rows of several files, one after the other.

    Args:
        paths: The files; all have the same columns.

    Raises:
        InputError: If one cannot be read, or has other columns.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        import datasets

        self.paths = tuple(paths)
        self.columns: tuple[str, ...] | None = None  # all
        self.num_opened = 0
        heads = [_head(path) for path in paths]
        schemas = [head.schema.to_arrow_schema() for head in heads]
        for path, schema in zip(paths, schemas, strict=True):
            if schema.names != schemas[0].names:
                found = f"has the columns {', '.join(schema.names)}, but {paths[0].name} {', '.join(schemas[0].names)}"
                raise FileError(Problem("other columns", path, found, "put tables of one kind below data.root"))
        self.features = datasets.Features.from_arrow_schema(schemas[0])
        groups = [(file, number) for file, head in enumerate(heads) for number in range(head.metadata.num_row_groups)]
        sizes = [heads[file].metadata.row_group(number).num_rows for file, number in groups]
        self.groups = np.array(groups, np.int64).reshape(-1, 2)
        self.starts: Int[np.ndarray, "g+1"] = np.cumsum([0, *sizes])
        self._reset()

    def _reset(self) -> None:
        self._open: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return a row, images as bytes or paths.

        Raises:
            FileError: If the file is damaged there.
        """
        group = int(self.shards(np.array([row]))[0])
        return self._group(group).slice(row - int(self.starts[group]), 1).to_pylist()[0]

    def select_columns(self, columns: Sequence[str]) -> ParquetTable:
        """Return the table with these columns alone: others are not read."""
        table = copy.copy(self)
        table.columns = tuple(columns)
        table._reset()
        return table

    def column(self, name: str) -> list[Any]:
        """Return all values of a column."""
        import pyarrow.parquet as pq

        return [value for path in self.paths for value in pq.read_table(path, columns=[name])[name].to_pylist()]

    def shards(self, rows: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Return the number of the row group of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def _group(self, group: int) -> pa.Table:
        with self._lock:  # also while one is read: threads that want the same must not read it twice
            if group not in self._open:
                while len(self._open) >= OPEN_GROUPS:
                    self._open.popitem(last=False)
                self._open[group] = self._read(*self.groups[group].tolist())
                self.num_opened += 1
            self._open.move_to_end(group)
            return self._open[group]

    def _read(self, file: int, number: int) -> pa.Table:
        path = self.paths[file]
        try:
            return _head(path).read_row_group(number, columns=None if self.columns is None else list(self.columns))
        except FileError:
            raise
        except Exception as error:  # of damaged pages and codecs
            raise FileError(_damaged(path, f"row group {number}: {error}")) from error


def _head(path: Path) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except Exception as error:  # of files that are none, or damaged
        raise FileError(_damaged(path, str(error))) from error


def _damaged(path: Path, found: str) -> Problem:
    return Problem("damaged table", path, found.strip().splitlines()[0], "copy or download it anew")


def open_parquet(root: Path | None, words: Mapping[str, Split]) -> dict[str, ParquetTable]:
    """Return the tables of each split, by names of folders or by how names of files begin, as ``train-00000.parquet``.

    Args:
        root: A folder of parquet files, or one of them; None for a data set of the hub.
        words: Which split a word says; what says none is ``train``.

    Raises:
        InputError: If there are none, or one cannot be read.
    """
    if root is None:
        raise InputError(
            "data.streaming=true reads parquet files where they lie, and not through a network: what trains is read "
            "again in every epoch, in another order. Download them once (hf download owner/name --repo-type dataset "
            "--local-dir DIR) and give data.root=DIR"
        )
    names = [root.name] if root.is_file() else list(walk_files(root))
    folder = root.parent if root.is_file() else root
    files: dict[str, list[Path]] = {}
    for name in names:
        if name.endswith(".parquet"):
            said = [words[word] for word in _words(name) if word in words] if root.is_dir() else []
            split = said[0] if said else "train"
            files.setdefault(_NAMES.get(split, split), []).append(folder / name)
    if not files:
        raise InputError(
            f"data.root={root}: data.streaming=true reads parquet files, and there are none; other kinds are read "
            "where they lie without it"
        )
    return {split: ParquetTable(paths) for split, paths in files.items()}


def _words(name: str) -> Iterator[str]:
    *folders, file = PurePosixPath(name).parts
    for word in (*folders, re.split(r"[-_.]", file)[0]):
        yield word.lower()
