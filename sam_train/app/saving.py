"""What was accepted, on disk: a folder that training reads as it is.

``images/`` and ``masks/`` are what ``data=folder`` reads, ``instances.json`` is one COCO file with the names of
objects. All of them follow from ``objects/<image>.json``, one file for each accepted image, which is written first and
whole: a server that is killed between two files has lost nothing, and the next one completes what is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from sam_train.app.folder import MARK, require_own_folder
from sam_train.app.objects import LabeledObject, instances_of, lengths_of
from sam_train.app.pictures import Picture
from sam_train.errors import InputError
from sam_train.files import write_json, written_whole
from sam_train.inference.mask_files import coco_annotations, write_coco, write_labels
from sam_train.metrics.rle import decode_mask
from sam_train.runs.predict import stems_of

_KEYS = {"name", "file_name", "height", "width", "objects"}


class ConflictError(InputError):
    """Someone else has accepted the same image meanwhile."""


class SavedLabels:
    """The accepted images of a folder.

    Args:
        folder: Where they are kept; made if it is not there.
        pictures: All images that can be labelled.
        opened: What these are, by which a folder of other images' labels is told from this one.

    Raises:
        InputError: If the folder cannot be written, or holds anything else.
    """

    def __init__(self, folder: Path, pictures: Sequence[Picture], opened: str) -> None:
        self.folder = folder
        self._pictures = {picture.name: picture for picture in pictures}
        self._lock = threading.Lock()
        require_own_folder(folder, opened)
        write_json(folder / MARK, {"opened": opened})
        self._records = {record["name"]: record for record in self._read_all()}
        self._stems = _stems(list(self._pictures), self._records)
        for name, record in self._records.items():
            self._complete(name, record)
        if self._records:
            self._write_coco()

    def __len__(self) -> int:
        """Return the number of accepted images, with those that are not opened now."""
        return len(self._records)

    def is_saved(self, name: str) -> bool:
        """Tell whether an image was accepted."""
        return name in self._records

    def revision(self, name: str) -> str | None:
        """Return what changes each time an image is accepted; None before the first."""
        record = self._records.get(name)
        return None if record is None else hashlib.blake2b(json.dumps(record).encode(), digest_size=8).hexdigest()

    def objects(self, name: str) -> list[LabeledObject]:
        """Return the objects of an accepted image."""
        return [
            LabeledObject(
                lengths_of(torch.from_numpy(decode_mask(one["segmentation"]))),
                one["category"],
                one.get("clicks", 0),
                one.get("model", 0),
            )
            for one in self._records[name]["objects"]
        ]

    def accept(
        self, name: str, size: tuple[int, int], objects: Sequence[LabeledObject], revision: str | None
    ) -> str | None:
        """Save the objects of an image, or without any take back what was saved of it.

        Args:
            name: Of the image.
            size: Its height and width.
            objects: What is on it; where they overlap, the label image shows the smaller one.
            revision: What :meth:`revision` said when the person began with the image.

        Returns:
            Its revision now.

        Raises:
            ConflictError: If the image was accepted by someone else since.
            InputError: If a mask has not the image's size, or the image cannot be read.
        """
        found = instances_of(objects, size)
        kept = [one for one in objects if sum(one.lengths[1::2])]
        annotations = coco_annotations(found)
        for annotation, one in zip(annotations, kept, strict=True):
            annotation |= {"clicks": one.clicks, "model": one.model}
        with self._lock:
            if revision != self.revision(name):
                raise ConflictError(
                    f"{name}: was accepted in another window meanwhile; load the page anew to see that, or accept once "
                    "more to replace it"
                )
            try:
                if annotations:
                    self._save(name, size, annotations)
                elif name in self._records:
                    self._remove(name)
                self._write_coco()
            except OSError as error:
                raise InputError(
                    f"{name}: cannot be written in {self.folder} ({error.strerror}); make room there, or see to its "
                    "rights, and accept the image again"
                ) from error
            return self.revision(name)

    def _save(self, name: str, size: tuple[int, int], annotations: list[dict[str, Any]]) -> None:
        suffix, content = self._pictures[name].file()
        before = self._records.get(name)
        record = {
            "name": name,
            "file_name": f"images/{self._stems[name]}.{suffix}",
            "height": size[0],
            "width": size[1],
            "objects": annotations,
        }
        with written_whole(self._mark(name), durable=True) as file:
            file.write_text(json.dumps(record), encoding="utf-8")
        self._records[name] = record
        self._complete(name, record, content)
        if before is not None and before["file_name"] != record["file_name"]:
            (self.folder / before["file_name"]).unlink(missing_ok=True)

    def clicks(self) -> list[tuple[int, int, int]]:
        """Return of each number of a model the objects that it helped with, and how many clicks these took."""
        counts: dict[int, list[int]] = {}
        for record in self._now():
            for one in record["objects"]:
                if one.get("clicks"):
                    counts.setdefault(one.get("model", 0), []).append(one["clicks"])
        return [(model, len(clicks), sum(clicks)) for model, clicks in sorted(counts.items())]

    def categories(self) -> list[str]:
        """Return the names of all saved objects, in order."""
        return sorted({one["category"] for record in self._now() for one in record["objects"]})

    def _now(self) -> list[dict[str, Any]]:
        """Return the records; others may be accepted while someone looks at these."""
        return list(self._records.values())

    def _mark(self, name: str) -> Path:
        return self.folder / "objects" / f"{self._stems[name]}.json"

    def _read_all(self) -> list[dict[str, Any]]:
        records = []
        for path in sorted((self.folder / "objects").glob("*.json")):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{path}: no JSON ({error}); move it elsewhere") from error
            if not isinstance(record, dict) or record.keys() != _KEYS or not _is_image(record["file_name"]):
                raise InputError(f"{path}: sam-app did not write that; move it elsewhere")
            records.append(record)
        return records

    def _complete(self, name: str, record: dict[str, Any], content: bytes | None = None) -> None:
        """Write the mask and the image of a record.

        Args:
            name: Of the image.
            record: Its record.
            content: Of the image's file, if it was accepted just now; None to write only what is not there, or is
                older than the record.
        """
        target = self.folder / record["file_name"]
        mark, mask = self._mark(name), self.folder / "masks" / f"{target.stem}.png"
        if content is not None or not mask.is_file() or mask.stat().st_mtime_ns < mark.stat().st_mtime_ns:
            size = (record["height"], record["width"])
            objects = [LabeledObject(one.lengths, one.category) for one in self.objects(name)]
            write_labels(mask.with_suffix(""), instances_of(objects, size).label_image(), None, as_tiff=False)
        if content is None and not target.is_file() and name in self._pictures:
            content = self._pictures[name].file()[1]
        if content is not None and not (target.is_file() and target.read_bytes() == content):
            with written_whole(target) as file:
                file.write_bytes(content)

    def _remove(self, name: str) -> None:
        """Take an image out; its record goes last, so that an interrupted removal leaves it accepted."""
        target = self.folder / self._records[name]["file_name"]
        for path in (target, self.folder / "masks" / f"{target.stem}.png", self._mark(name)):
            path.unlink(missing_ok=True)
        del self._records[name]

    def _write_coco(self) -> None:
        images = [{**record, "annotations": record["objects"]} for record in self._records.values()]
        write_coco(self.folder / "instances.json", images)


def _is_image(file_name: Any) -> bool:
    """Tell whether a record's file is one of the folder of images: what it says is written to and removed."""
    place = PurePosixPath(str(file_name))
    return place.parts == ("images", place.name) and place.name not in (".", "..") and "\\" not in place.name


def _stems(names: Sequence[str], records: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the name of each image's files without suffix: that of its own file, made unique where it is not.

    What was saved keeps the names it has, whatever images have come since.
    """
    stems = {name: Path(record["file_name"]).stem for name, record in records.items()}
    used = {stem.casefold() for stem in stems.values()}
    for name, stem in zip(names, stems_of(names), strict=True):
        if name not in stems:
            plain = re.sub(r'[/\\:*?"<>|\x00-\x1f]|__+', "-", stem)[-120:].strip(" .-") or "image"
            if plain.casefold() in used:
                plain = f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
            stems[name] = plain
            used.add(plain.casefold())
    return stems
