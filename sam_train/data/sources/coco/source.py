"""Images with their objects in a COCO file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.coco.annotation_files import find_annotations
from sam_train.data.sources.coco.image_names import ImageFiles, Place, leads_out
from sam_train.data.sources.coco.images import GIVEN, CocoImages
from sam_train.data.sources.coco.reading import read_index
from sam_train.data.sources.given import GivenPrompts, read_given
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.safe_walk import inside, walk_files
from sam_train.data.sources.splits import SPLITS, assign_splits, complete_splits, require_whole_groups
from sam_train.errors import FileError, InputError, Problem

_FRACTIONS = (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class CocoSource(PixelSource):
    """Images and the instances of a COCO file, as COCO, LVIS, CVAT, Label Studio, LabelMe and Roboflow write it.

    Images without an object (that is no crowd, and of ``categories``) are left out, with a warning.

    Attributes:
        root: The folder that holds images and annotation files; nothing outside it is read, except through ``links``.
        annotations: The one annotation file below ``root``, to be split by shares. None to find it, or those of the
            splits, whose names or folders then say train, val or test.
        train: The annotation file of the training images, where each split has its own.
        val: The annotation file of the validation images.
        test: The annotation file of the test images.
        images: The folder below ``root`` that the file names count from; None to find it.
        prefix: What file names in the annotation file begin with that is not there, such as ``/data/upload/1/``.
        categories: Names of the categories whose objects count; None for all.
        split: Shares of train, val and test, where there is one annotation file.
        split_seed: Another seed gives another split by shares.
        group_pattern: Regular expression, searched in the image's file name. Its first group, or else the whole match,
            names the patient, slide or video that must not be in two splits.
        group_key: Key of the images' records that names the group instead.
        given: What ``prompts=given`` gives: the annotations' ``boxes``, the visible ``keypoints``, or ``both``.
        boxes: File below ``root`` of boxes instead, as of a detector: COCO's results, or csv or json
            (:mod:`.prompt_files`). Each object takes the one that overlaps it most.
        points: Likewise of points.
        links: Whether links may lead out of ``root``, as into a store of git-annex or DVC.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    annotations: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    images: str | None = None
    prefix: str = ""
    categories: Sequence[str] | None = None
    split: Sequence[float] = _FRACTIONS
    split_seed: int = 0
    group_pattern: str | None = None
    group_key: str | None = None
    given: str = "boxes"
    boxes: str | None = None
    points: str | None = None
    links: bool = False
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have images, in order of the annotation file. Images are listed, not opened.

        Raises:
            InputError: If a file is damaged, or files and options do not fit each other.
        """
        if isinstance(self.categories, str):
            raise InputError(f"data.categories={self.categories}: expected names in brackets, as [{self.categories}]")
        if self.group_pattern is not None and self.group_key is not None:
            raise InputError("data.group_pattern and data.group_key both say what a group is; give one of them")
        self.tones()
        if self.given not in GIVEN:
            raise InputError(f"data.given={self.given}: expected one of {', '.join(GIVEN)}")
        root = Path(str(self.root)).expanduser().absolute()
        if not root.is_dir():
            raise InputError(f"data.root={root}: no such folder; it should hold images and a COCO file")
        names = list(walk_files(root, self.links))
        files = ImageFiles(names)
        jsons = self._given(root) or find_annotations(root, names)
        if len(jsons) > 1 and tuple(self.split) != _FRACTIONS:
            raise InputError(f"{root}: {', '.join(jsons.values())} and data.split both say how to split; leave one")
        given = read_given(root, self.boxes, self.points)
        found: dict[Split | None, CocoImages] = {split: self._read(root, jsons[split], files, given) for split in jsons}
        names = [name for images in found.values() for name in images.file_names()]
        given.require_known(names, sum(map(len, found.values())))
        splits = _by_shares(found[None], self.split, self.split_seed) if None in found else _by_file(found)
        return complete_splits(splits, str(root))

    def _given(self, root: Path) -> dict[Split | None, str]:
        """Return the annotation files that the settings name."""
        given: dict[Split | None, str] = {split: str(name) for split in SPLITS if (name := getattr(self, split))}
        if given and self.annotations:
            raise InputError("data.annotations is split by shares, data.train, val and test are splits; give one kind")
        if self.annotations:
            given = {None: str(self.annotations)}
        for split, name in given.items():
            setting = f"data.{split or 'annotations'}"
            if not inside(root, name, setting).is_file():
                raise InputError(f"{setting}={name}: no such file in {root}")
        return given

    def _read(self, root: Path, json: str, files: ImageFiles, given: GivenPrompts) -> CocoImages:
        """Return all images of an annotation file that have objects."""
        index = read_index(root / json, self.categories, self.group_key)
        if index.problems and self.is_strict:
            raise FileError(index.problems[0])
        rows = index.with_objects()
        if not len(rows):
            of = f" of {', '.join(self.categories)}" if self.categories else ""
            raise InputError(f"{root / json}: none of its {len(index.names)} images has an object{of}")
        if left := len(index.names) - len(rows):
            warnings.warn(f"{root / json}: {left} of {len(index.names)} images have no object; left out", stacklevel=4)
        names = [index.names[row].removeprefix(self.prefix) for row in rows]
        place = Place(str(self.images).strip("/") + "/") if self.images else files.find_place(names, json)
        ids, faults = [], {}
        for row, name in zip(rows.tolist(), names, strict=True):
            file, problem = _locate(name, place, files, index.path)
            ids.append(file)
            if problem:
                faults[row] = problem
        groups = [index.groups[row] for row in rows] if index.groups else ids
        if self.group_pattern is not None:
            groups = match_groups(self.group_pattern, ids)
        groups = PackedTexts(groups)
        own = self.tones(), self.given, given
        return CocoImages(PackedTexts(ids), root, index, rows, groups, faults, index.problems, *own)


def _locate(name: str, place: Place, files: ImageFiles, json: Path) -> tuple[str, Problem | None]:
    if leads_out(name):
        remedy = "write names that count from a folder below data.root, or say with data.prefix what to leave out"
        return name, Problem("name leads out of the data root", json, f"{name} is absolute or goes up", remedy)
    found = files.find(name, place)
    if len(found) == 1:
        return found[0], None
    if found:
        several = f"{name} may be {' or '.join(found[:3])}"
        return name, Problem("ambiguous name", json, several, "say with data.images which folder it is in")
    remedy = "put the image there, say with data.images where images are, or remove its record"
    return place.of(name), Problem("missing image", json, f"{name} is neither {place.of(name)} nor elsewhere", remedy)


def _by_shares(images: CocoImages, fractions: Sequence[float], seed: int) -> dict[Split, ImageSet]:
    assigned = np.array(assign_splits(list(images.groups), fractions, seed))
    splits: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if len(rows := (assigned == split).nonzero()[0]):
            splits[split] = _part(images, rows, () if splits else images.loose_ends)
    return splits


def _part(images: CocoImages, rows: np.ndarray, loose_ends: Sequence[Problem]) -> CocoImages:
    ids = PackedTexts(images.ids[int(row)] for row in rows)
    groups = PackedTexts(images.groups[int(row)] for row in rows)
    return replace(images, ids=ids, images=images.images[rows], groups=groups, loose_ends=loose_ends)


def _by_file(found: Mapping[Split | None, CocoImages]) -> dict[Split, ImageSet]:
    names = [name for images in found.values() for name in images.ids]
    groups = [group for images in found.values() for group in images.groups]
    require_whole_groups(names, groups, [split for split, images in found.items() for _ in images.ids])
    return {split: found[split] for split in SPLITS if split in found}
