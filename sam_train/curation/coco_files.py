"""COCO files of any number of objects, put together from parts without holding them all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from sam_train.files import written_whole


def write_coco(folder: Path, parts: Mapping[str, Sequence[Path]], categories: Sequence[str]) -> None:
    """Write ``instances_<split>.json`` for each split; ids are unique among all splits.

    Args:
        folder: Of the JSON files.
        parts: Of each split the files of records, in order: a line an image, with its annotations.
        categories: Names in order; others follow by the alphabet.
    """
    found = {one["category"] for paths in parts.values() for line in _lines(paths) for one in line["annotations"]}
    names = [*dict.fromkeys(categories), *sorted(found - set(categories))]
    numbers = {name: number for number, name in enumerate(names, start=1)}
    image_id, annotation_id = 1, 1
    for split, paths in parts.items():
        with (
            written_whole(folder / f"instances_{split}.json") as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.write('{"info": {"description": "written by sam-data convert"}, "categories": ')
            json.dump([{"id": number, "name": name} for name, number in numbers.items()], file)
            file.write(',\n"images": ')
            images = ({"id": number, **line["image"]} for number, line in enumerate(_lines(paths), start=image_id))
            _write_list(file, images)
            file.write(',\n"annotations": ')
            annotations = (
                {"image_id": number, "category_id": numbers[one.pop("category")], **one}
                for number, line in enumerate(_lines(paths), start=image_id)
                for one in line["annotations"]
            )
            annotation_id += _write_list(file, ({"id": i, **one} for i, one in enumerate(annotations, annotation_id)))
            file.write("}\n")
        image_id += sum(1 for _ in _lines(paths))


def _lines(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _write_list(file: TextIO, records: Iterator[dict[str, Any]]) -> int:
    """Write records, one a line; return how many there were."""
    count = 0
    for count, record in enumerate(records, start=1):
        file.write(f"{'[' if count == 1 else ','}\n{json.dumps(record)}")
    file.write("\n]" if count else "[]")
    return count
