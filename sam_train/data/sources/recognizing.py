"""Recognizes what kind of data a folder holds. Imports nothing heavy: a mistake is told at once."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sam_train.data.sources.other_kinds import is_coco, is_dicom, is_labelme, is_sa1b
from sam_train.data.sources.safe_walk import walk_files

_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_VOLUME_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"))
_SPLITS = ("train", "val", "test")
_LOOKED_AT = 32  # members of a tar, or JSON files, one for each image
_COUNTED = 1 << 28  # bytes of a JSON file that are read to count what is in it


@dataclass(frozen=True)
class Found:
    """One way to read a folder.

    Attributes:
        words: What to add to the command.
        what: What is there, for people.
    """

    words: tuple[str, ...]
    what: str


def recognize(root: Path) -> list[Found]:
    """Return the ways in which a folder can be read as training data."""
    if not root.is_dir():
        return []
    files = list(walk_files(root, links=True))
    readings = (_folders(files), _voc(files), _coco(root, files), _labelme(root, files), _volumes(root, files))
    others = (_tables(files), _arrays(files), _records(root, files))
    return [found for reading in (*readings, *others) for found in reading]


def _folders(files: Sequence[str]) -> Iterator[Found]:
    """Yield ``images`` with ``masks``, or where there is no such folder, with each that is called like it."""
    counts: Counter[str] = Counter()
    for name in files:
        if name.lower().endswith(_IMAGES):
            parts = name.split("/")[:-1]
            counts[parts[1] if len(parts) > 1 and parts[0] in _SPLITS else parts[0] if parts else ""] += 1
    if not counts["images"]:
        return
    masks = ["masks"] if counts["masks"] else [name for name in sorted(counts) if "mask" in name or "label" in name]
    for folder in masks:
        words = ("data=folder",) if folder == "masks" else ("data=folder", f"data.masks={folder}")
        yield Found(words, f"images/ and {folder}/, {counts['images']:,} images")


def _voc(files: Sequence[str]) -> Iterator[Found]:
    """Yield PASCAL VOC's folders: of objects, or else of classes, whose pieces then are objects."""
    counts = Counter(name.split("/")[0] for name in files if name.lower().endswith(_IMAGES))
    if not counts["JPEGImages"] or not (counts["SegmentationObject"] or counts["SegmentationClass"]):
        return
    masks = "SegmentationObject" if counts["SegmentationObject"] else "SegmentationClass"
    words = ["data=folder", "data.images=JPEGImages", f"data.masks={masks}", "data.ignore=[255]"]
    lists = [name.rpartition("/")[0] for name in files if name.endswith("/train.txt") and "ImageSets/Seg" in name]
    words += [f"data.lists={lists[0]}"] if lists else []
    words += ["data.objects=components"] if masks == "SegmentationClass" else []
    yield Found(tuple(words), f"PASCAL VOC, {counts[masks]:,} masks")


def _labelme(root: Path, files: Sequence[str]) -> Iterator[Found]:
    jsons = [name for name in files if name.lower().endswith(".json")]
    number = sum(is_labelme(root / name) for name in jsons[:_LOOKED_AT])
    if number and number == len(jsons[:_LOOKED_AT]):
        yield Found(("data=labelme",), f"LabelMe annotations, {len(jsons):,} files")


def _coco(root: Path, files: Sequence[str]) -> Iterator[Found]:
    jsons = [name for name in files if name.lower().endswith(".json") and is_coco(root / name)]
    if jsons and any(name.lower().endswith(_IMAGES) for name in files):
        what = f"COCO json ({', '.join(jsons[:3])}{' and more' if len(jsons) > 3 else ''})"
        yield Found(("data=coco",), what + (_count(root / jsons[0]) if len(jsons) == 1 else ""))


def _count(path: Path) -> str:
    """Return how many images and categories a COCO file has; nothing where that takes long or it is damaged."""
    if path.stat().st_size > _COUNTED:
        return ""
    import orjson

    try:
        content = orjson.loads(path.read_bytes())
        categories, images = len(content["categories"]), len(content["images"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f", {categories:,} categor{'y' if categories == 1 else 'ies'}, {images:,} images"


def _volumes(root: Path, files: Sequence[str]) -> Iterator[Found]:
    counts = Counter(name.split("/")[0] for name in files if name.lower().endswith(_VOLUMES) and "/" in name)
    pairs = [(images, labels) for images, labels in _VOLUME_FOLDERS if counts[images] and counts[labels]]
    dicom = [name for name in files if name.lower().endswith(".dcm") or ("." not in name and is_dicom(root / name))]
    if pairs:
        images, labels = pairs[0]
        yield Found(("data=volume",), f"{counts[images]:,} volumes in {images}/ and their labels in {labels}/")
    elif dicom:
        yield Found(("data=volume",), f"{len(dicom):,} DICOM files")


def _tables(files: Sequence[str]) -> Iterator[Found]:
    """Yield what the library ``datasets`` writes or opens."""
    tables = [name for name in files if name.lower().endswith((".parquet", ".arrow"))]
    if tables:
        yield Found(("data=hf",), f"{len(tables):,} tables of parquet or arrow")
    metadata = [name for name in files if name.rpartition("/")[2] in ("metadata.csv", "metadata.jsonl")]
    if metadata and not tables:
        yield Found(("data=hf",), f"images with {metadata[0]}")


def _arrays(files: Sequence[str]) -> Iterator[Found]:
    """Yield what was prepared for MedSAM."""
    archives = [name for name in files if name.endswith(".npz")]
    arrays = [name for name in files if name.endswith(".npy") and "/imgs/" in f"/{name}"]
    if archives or arrays:
        what = f"{len(archives):,} npz files" if archives else f"{len(arrays):,} npy files in imgs/"
        yield Found(("data=npz",), what)


def _records(root: Path, files: Sequence[str]) -> Iterator[Found]:
    """Yield images with their masks in JSON beside them, as SA-1B has them, in tars or not."""
    tars = [name for name in files if name.endswith(".tar")]
    if tars and _holds_records(root / tars[0]):
        yield Found(("data=sa1b",), f"{len(tars):,} tar{'' if len(tars) == 1 else 's'} of images and JSON")
    stems = {name.rpartition(".")[0] for name in files if name.lower().endswith(_IMAGES)}
    jsons = [name for name in files if name.endswith(".json") and name.removesuffix(".json") in stems]
    if jsons and not tars and is_sa1b(root / jsons[0]):
        yield Found(("data=sa1b",), f"{len(jsons):,} images with their masks in JSON beside them")


def _holds_records(path: Path) -> bool:
    """Tell by the first members of a tar whether there are images and JSON in it."""
    try:
        with tarfile.open(path, "r:") as tar:
            names = [member.name.lower() for member in islice(tar, _LOOKED_AT)]
    except (tarfile.TarError, OSError):
        return False
    return any(name.endswith(_IMAGES) for name in names) and any(name.endswith(".json") for name in names)
