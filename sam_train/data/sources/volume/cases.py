"""Finds volumes and what labels them."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sam_train.data.sources.other_kinds import is_dicom
from sam_train.data.sources.safe_walk import inside, walk_files
from sam_train.data.sources.volume.dicom import LABELS, read_headers
from sam_train.data.sources.volume.dicom_labels import referenced_series
from sam_train.data.sources.volume.reading import SUFFIXES, stem_of
from sam_train.errors import FileError, InputError, Problem

FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"))
"""Names of folders of volumes and of labels: of the Medical Segmentation Decathlon and nnU-Net, then usual ones."""

TEST_FOLDERS = ("imagesTs", "labelsTs")
"""nnU-Net's folders of test volumes and their labels."""


@dataclass(frozen=True)
class Case:
    """A volume and its labels.

    Attributes:
        id: Its name below the images folder without suffix; of DICOM its folder.
        image: Its files: one, one for each channel, or the slices of a DICOM series.
        labels: A label volume, or DICOM files of objects.
        patient: As DICOM says it; empty if nothing does.
        problem: The reason why it cannot be used.
    """

    id: str
    image: tuple[Path, ...]
    labels: tuple[Path, ...]
    patient: str = ""
    problem: Problem | None = None

    @property
    def is_series(self) -> bool:
        """Whether the image is a DICOM series."""
        return stem_of(self.image[0].name) is None


@dataclass(frozen=True)
class Description:
    """What a ``dataset.json`` says.

    Attributes:
        names: Names of label numbers.
        is_ct: Whether the (only) channel is a CT.
        pairs: Files of the cases, below the root; none where folders tell them.
    """

    names: Mapping[int, str]
    is_ct: bool = False
    pairs: tuple[tuple[str, str], ...] = ()


def read_description(root: Path) -> Description:
    """Read ``dataset.json``, as the Medical Segmentation Decathlon or nnU-Net writes it; it may be absent.

    Raises:
        FileError: If it is damaged.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return Description({})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = content.get("labels") or {}
        names = {_number(key, value): str(key if _is_number(value) else value) for key, value in labels.items()}
        channels = content.get("channel_names") or content.get("modality") or {}
        training = content.get("training") or ()
        pairs = tuple((str(one["image"]), str(one["label"])) for one in training if isinstance(one, dict))
        is_ct = [str(name).upper() for name in channels.values()] == ["CT"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        found = f"no JSON of labels and cases ({error!r})"
        raise FileError(Problem("damaged dataset.json", path, found, "mend it, or move it elsewhere")) from error
    return Description({number: name for number, name in names.items() if number is not None}, is_ct, pairs)


def find_cases(root: Path, images: str | None, labels: str | None, description: Description) -> list[Case]:
    """Find the volumes below a folder that have labels, in order of their ids.

    Raises:
        InputError: If there are none, or the folders are missing.
        FileError: If a file that says what belongs together cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold volumes and their labels")
    if (images is None) != (labels is None):
        raise InputError("data.images and data.labels name the folders of volumes and of labels; give both or none")
    if images is None and description.pairs:
        cases = _listed(root, description.pairs)
    else:
        given = [(images, labels)] if images is not None and labels is not None else FOLDERS
        folders = [pair for pair in given if all((inside(root, name, "data.images") / ".").is_dir() for name in pair)]
        if images is not None and not folders:
            raise InputError(f"{root}: no folders {images} and {labels} (data.images, data.labels)")
        cases = list(_paired(root, *folders[0])) if folders else list(_labelled_series(root))
    if not cases:
        tried = ", ".join(f"{one} and {other}" for one, other in FOLDERS)
        raise InputError(
            f"{root}: no volumes with labels: expected folders {tried} (data.images= and data.labels= name others), "
            "a dataset.json, or DICOM series with SEG or RTSTRUCT files"
        )
    return sorted(cases, key=lambda case: case.id)


def find_test_cases(root: Path, images: str | None, others: Collection[str]) -> list[Case]:
    """Return the test volumes of nnU-Net that have labels: none where folders are named, or there is no such folder.

    Args:
        root: The folder.
        images: The setting that names the folder of volumes.
        others: Ids of the other volumes, which must not be used twice.
    """
    if images is not None or not all((inside(root, name, "data.images") / ".").is_dir() for name in TEST_FOLDERS):
        return []
    cases = sorted(_paired(root, *TEST_FOLDERS), key=lambda case: case.id)
    return [replace(case, id=f"Ts/{case.id}") if case.id in others else case for case in cases]


def _listed(root: Path, pairs: Sequence[tuple[str, str]]) -> list[Case]:
    """Return the cases that ``dataset.json`` lists, named by what tells their paths apart."""
    files = [[inside(root, name, "dataset.json: training") for name in pair] for pair in pairs]
    names = [PurePosixPath(image) for image, _ in pairs]
    shared = os.path.commonpath([str(name.parent) for name in names])
    cases = []
    for name, (path, labels) in zip(names, files, strict=True):
        image = (path,) if path.is_file() else _channels_of(path)
        missing = path if not image else labels if not labels.is_file() else None
        problem = missing and Problem(
            "missing file", missing, "dataset.json names it", "put it there or remove its entry"
        )
        own = str(name.relative_to(shared))
        cases.append(Case(stem_of(own) or own, image or (path,), (labels,), problem=problem))
    if repeated := next((one for one, number in Counter(case.id for case in cases).items() if number > 1), None):
        raise InputError(f"{root / 'dataset.json'}: training lists {repeated} more than once; leave one")
    return cases


def _channels_of(path: Path) -> tuple[Path, ...]:
    """Return the files ``<case>_0000``, ... of a case that nnU-Net lists as ``<case>``."""
    stem = stem_of(path.name)
    if stem is None or not path.parent.is_dir():
        return ()
    suffix = path.name[len(stem) :]
    is_channel = re.compile(rf"{re.escape(stem)}_\d{{4}}{re.escape(suffix)}").fullmatch
    return tuple(sorted(beside for beside in path.parent.iterdir() if is_channel(beside.name)))


def _paired(root: Path, images: str, labels: str) -> Iterator[Case]:
    """Yield the cases of two folders; of nnU-Net an image is several files ``<case>_0000`` of one channel each."""
    label_files: dict[str, list[str]] = defaultdict(list)
    for name in walk_files(root / labels):
        if stem := stem_of(name):
            label_files[stem].append(name)
    image_files: dict[str, list[str]] = defaultdict(list)
    series: dict[str, list[Path]] = defaultdict(list)
    for name in walk_files(root / images):
        if stem := stem_of(name):
            case, _, channel = stem.rpartition("_")
            is_channel = len(channel) == 4 and channel.isdigit() and stem not in label_files
            image_files[case if is_channel else stem].append(name)
        elif name.lower().endswith(".dcm") or is_dicom(root / images / name):
            series[name.rpartition("/")[0]].append(root / images / name)
    for stem in sorted({*image_files, *series, *label_files} - {""}):
        found = tuple(series[stem]) if stem in series else tuple(root / images / name for name in image_files[stem])
        masks = tuple(root / labels / name for name in label_files[stem])
        yield Case(stem, found or masks, masks, problem=_unpaired(stem, found, masks, root / images, root / labels))


def _unpaired(stem: str, image: Sequence[Path], masks: Sequence[Path], images: Path, labels: Path) -> Problem | None:
    remedy = "give an image and its labels the same name"
    if not image:
        return Problem("labels without volume", masks[0], f"nothing called {stem} in {images}", remedy)
    if not masks:
        return Problem("volume without labels", image[0], f"nothing called {stem} in {labels}", remedy)
    if len(masks) > 1:
        found = f"{masks[1].name} beside it differs in the suffix only"
        return Problem("duplicate name", masks[0], found, "keep one of them")
    return None


def _labelled_series(root: Path) -> Iterator[Case]:
    """Yield the DICOM series that SEG or RTSTRUCT files are about."""
    paths = [root / name for name in walk_files(root) if not name.lower().endswith((*SUFFIXES, ".json", ".md"))]
    paths = [path for path in paths if path.suffix.lower() == ".dcm" or is_dicom(path)]
    if not paths:
        return
    series = read_headers(paths)
    labels: dict[str, list[Path]] = defaultdict(list)
    for slices in series.values():
        for one in slices:
            if one.modality in LABELS:
                for uid in referenced_series(one.path) & series.keys():
                    labels[uid].append(one.path)
    for uid, files in labels.items():
        slices = series[uid]
        folder = slices[0].path.parent.relative_to(root).as_posix()
        alone = sum(other[0].path.parent == slices[0].path.parent for other in series.values() if other[0].uid != uid)
        name = folder if alone == 1 and folder != "." else f"{folder}/{uid}".removeprefix("./")
        image = tuple(sorted(one.path for one in slices))
        yield Case(name, image, tuple(sorted(files)), slices[0].patient)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit())


def _number(key: Any, value: Any) -> int | None:
    """Return the number of a label: the value in nnU-Net's form, the key in the Decathlon's; None for regions."""
    if _is_number(value):
        return int(value)
    return int(key) if str(key).isdigit() else None
