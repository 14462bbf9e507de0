"""Rows of scores as files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_train.files import written_whole

if TYPE_CHECKING:
    import pyarrow as pa


def write_rows(rows: pa.Table, folder: Path) -> None:
    """Write ``rows.parquet``, and ``rows.csv`` for spreadsheets: without masks, lists as numbers with spaces."""
    import pyarrow.parquet as pq

    with written_whole(folder / "rows.parquet") as file:
        pq.write_table(rows, file)
    names = [name for name in rows.column_names if not name.endswith("rle")]
    with written_whole(folder / "rows.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for batch in rows.select(names).to_batches(max_chunksize=10_000):
            writer.writerows(zip(*(map(_cell, batch.column(name).to_pylist()) for name in names), strict=True))


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    # Spreadsheets run what begins with = and the like; names of files and categories may.
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" and value else value
