"""Parquet files as the library ``datasets`` writes them, a few images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from sam_train.curation.records import Record

_ROWS = 16  # in memory at once, and in a row group: an image is read without the others of its file


def write_parquet(path: Path, records: Iterable[Record]) -> None:
    """Write a table with the columns ``image``, ``objects``, ``name``, ``group`` and ``spacing``.

    Args:
        path: Of the file.
        records: The rows.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole, text = datasets.Value("int64"), datasets.Value("string")
    outline = {"size": datasets.List(whole), "counts": text}
    one = {"segmentation": outline, "bbox": datasets.List(whole), "area": whole, "iscrowd": whole, "category": text}
    columns = {"image": datasets.Image(), "objects": datasets.List(one), "name": text, "group": text}
    schema = datasets.Features({**columns, "spacing": datasets.List(datasets.Value("float64"))}).arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for some in _batched(records):
            rows = [
                {
                    "image": {"bytes": record.content, "path": record.image["file_name"]},
                    "objects": record.annotations,
                    "name": record.image["name"],
                    "group": record.image["group"],
                    "spacing": record.image.get("spacing"),
                }
                for record in some
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _batched(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while some := list(islice(iterator, _ROWS)):
        yield some
