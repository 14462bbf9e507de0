"""Formats that data are written in, part by part: each part is whole or not there."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from sam_train.curation.coco_files import write_coco
from sam_train.curation.parquet import write_parquet
from sam_train.curation.records import Record
from sam_train.data.sources.base import Split
from sam_train.files import written_whole


class Part(NamedTuple):
    """Some images of a split, one after the other.

    Attributes:
        split: Its name.
        number: Number of the part in its split, from 0.
        of: How many parts the split has.
        indices: Of the images.
        before: How many images the splits before this one have.
    """

    split: Split
    number: int
    of: int
    indices: range
    before: int


class Format(ABC):
    """A format.

    Attributes:
        images_per_part: As many as go into a part; the last one of a split has fewer.
    """

    images_per_part: ClassVar[int] = 256

    @abstractmethod
    def path(self, folder: Path, part: Part) -> Path:
        """Return the file that says that a part is done."""

    @abstractmethod
    def write(self, folder: Path, part: Part, records: Iterable[Record]) -> None:
        """Write a part; the file of :meth:`path` at the end, and whole. A function of the records alone."""

    def finish(self, folder: Path, parts: Sequence[Part], categories: Sequence[str]) -> None:  # noqa: B027
        """Write what is about all parts, once all are done; it may be called again.

        Args:
            folder: Of the output.
            parts: All of them.
            categories: Those of the data, in order, as far as these say them.

        By default there is nothing.
        """

    def tidy(self, folder: Path) -> None:  # noqa: B027
        """Remove what is of no use once everything is written; by default there is nothing."""


class WebDataset(Format):
    """Tars as SA-1B's: of each image its file, and one of JSON with its run lengths."""

    def path(self, folder: Path, part: Part) -> Path:
        """See :meth:`Format.path`."""
        return folder / f"{part.split}-{part.number:06}.tar"

    def write(self, folder: Path, part: Part, records: Iterable[Record]) -> None:
        """See :meth:`Format.write`."""
        with written_whole(self.path(folder, part)) as temporary, tarfile.open(temporary, "w") as tar:
            for number, record in zip(part.indices, records, strict=True):
                image = {"image_id": part.before + number, **record.image}
                annotations = [{"id": place, **one} for place, one in enumerate(record.annotations)]
                content = json.dumps({"image": image, "annotations": annotations}).encode()
                _add(tar, f"{record.key}.{record.suffix}", record.content)
                _add(tar, f"{record.key}.json", content)


class Parquet(Format):
    """Tables that ``datasets.load_dataset`` opens, with images in them."""

    def path(self, folder: Path, part: Part) -> Path:
        """See :meth:`Format.path`."""
        split = "validation" if part.split == "val" else part.split
        return folder / "data" / f"{split}-{part.number:05}-of-{part.of:05}.parquet"

    def write(self, folder: Path, part: Part, records: Iterable[Record]) -> None:
        """See :meth:`Format.write`."""
        with written_whole(self.path(folder, part)) as temporary:
            write_parquet(temporary, records)


class Coco(Format):
    """Files of images, and of each split one JSON file with run lengths."""

    images_per_part: ClassVar[int] = 64

    def path(self, folder: Path, part: Part) -> Path:
        """See :meth:`Format.path`: the records of a part; JSON files are made of them."""
        return folder / ".parts" / f"{part.split}-{part.number:06}.jsonl"

    def write(self, folder: Path, part: Part, records: Iterable[Record]) -> None:
        """See :meth:`Format.write`."""
        with (
            written_whole(self.path(folder, part)) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            for record in records:
                name = f"{part.split}/{record.key}.{record.suffix}"
                with written_whole(folder / "images" / name) as image:
                    image.write_bytes(record.content)
                line: dict[str, Any] = {"image": {**record.image, "file_name": name}, "annotations": record.annotations}
                file.write(f"{json.dumps(line)}\n")

    def finish(self, folder: Path, parts: Sequence[Part], categories: Sequence[str]) -> None:
        """See :meth:`Format.finish`."""
        files: dict[str, list[Path]] = {}
        for part in parts:
            files.setdefault(part.split, []).append(self.path(folder, part))
        write_coco(folder / "annotations", files, categories)

    def tidy(self, folder: Path) -> None:
        """See :meth:`Format.tidy`."""
        shutil.rmtree(folder / ".parts", ignore_errors=True)


FORMATS: Mapping[str, Format] = {"coco": Coco(), "datasets": Parquet(), "webdataset": WebDataset()}
"""By the name that a person gives them."""


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without time or owner: the same images give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
