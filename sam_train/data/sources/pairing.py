"""Which mask files belong to which image of a folder."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sam_train.data.sources.base import Split
from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.splits import SPLITS
from sam_train.errors import InputError, Problem


@dataclass(frozen=True)
class Pair:
    """An image file and its mask files.

    Attributes:
        stem: Path of the image below its images folder, with ``/`` and without suffix.
        image: The image file.
        masks: One label image, or one binary image per object.
        per_object: Whether they are one per object.
        split: The ready split in whose folder it lies, if the folders are split.
        problem: Why these files cannot be used; None if nothing speaks against reading them.
    """

    stem: str
    image: Path
    masks: tuple[Path, ...]
    per_object: bool
    split: Split | None
    problem: Problem | None

    @property
    def id(self) -> str:
        """The stem, after the split's name where splits may use a stem twice."""
        return f"{self.split}/{self.stem}" if self.split else self.stem


def find_pairs(root: Path, images: str, masks: str) -> tuple[list[Pair], list[Problem]]:
    """All images below ``root`` in the order of their ids, and the problems that belong to no image.

    Masks of an image ``a.png`` are the file ``masks/a.*``, or one file per object in ``masks/a/*`` or ``masks/a__*``.
    Folders may have sub-folders, the same in both. Hidden files and those of other kinds are not looked at.

    A ready split is recognised where there is no folder ``root/images`` but one of ``root/train/images``,
    ``root/val/images`` and ``root/test/images``, or where ``root/images`` holds folders of these names.

    Raises:
        InputError: If a folder is missing, empty or a link, if no image has a mask, or if it is not clear what the
            splits are.
    """
    pairs: list[Pair] = []
    loose_ends: list[Problem] = []
    for split, image_folder, mask_folder in _folders(root, images, masks):
        found, masks_alone = _pair(split, root, _files(image_folder), _files(mask_folder), mask_folder)
        if not any(pair.masks for pair in found):
            raise InputError(
                f"none of the {len(found)} images in {image_folder} has a mask: {found[0].image.name} looks for "
                f"{mask_folder / found[0].stem}.png, but there are {_some([path.name for path in masks_alone])}; "
                "give masks the names of their images, apart from the suffix"
            )
        pairs += found
        remedy = "add its image, or move the mask elsewhere"
        loose_ends += [Problem("mask without image", path, "no image has this name", remedy) for path in masks_alone]
    return sorted(pairs, key=lambda pair: pair.id), loose_ends


def _folders(root: Path, images: str, masks: str) -> Iterator[tuple[Split | None, Path, Path]]:
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold {images}/ and {masks}/")
    if (root / images).is_dir():
        image_folder, mask_folder = _inside(root, images, "images"), _inside(root, masks, "masks")
        if image_folder.is_relative_to(mask_folder) or mask_folder.is_relative_to(image_folder):
            raise InputError(f"data.images={images} and data.masks={masks} overlap; give each its own folder")
        ready = _ready_split(image_folder, Path())
        loose = [path for path in image_folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
        if ready and loose:
            raise InputError(
                f"{image_folder} holds the split folders {', '.join(ready)} and also images of its own, such as "
                f"{loose[0].name}; move each into one of these folders, or elsewhere"
            )
        if not ready:
            yield None, image_folder, mask_folder
        else:
            for split in ready:
                yield split, _inside(root, f"{images}/{split}", "images"), _inside(root, f"{masks}/{split}", "masks")
    else:
        ready = _ready_split(root, Path(images))
        if not ready:
            _inside(root, images, "images")
        for split in ready:
            yield split, _inside(root, f"{split}/{images}", "images"), _inside(root, f"{split}/{masks}", "masks")


def _ready_split(parent: Path, below: Path) -> list[Split]:
    """The splits that have a folder of their own."""
    names = {folder.name for folder in parent.iterdir() if (folder / below).is_dir() and folder.name[0] != "."}
    ready: list[Split] = [split for split in SPLITS if split in names]
    if others := sorted(names.difference(ready)) if ready else []:
        raise InputError(
            f"{parent} holds the split folders {', '.join(ready)} and also {_some(others)}; "
            f"call split folders {', '.join(SPLITS)} and move others elsewhere"
        )
    return ready


def _inside(root: Path, name: str, field: str) -> Path:
    folder = root / name
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root)):
        raise InputError(f"data.{field}: {folder} leads out of {root}; name a folder inside data.root")
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        lower = {other.lower(): other for other in there}
        near = [lower[match] for match in difflib.get_close_matches(folder.name.lower(), lower, n=1)]
        remedy = f"did you mean {near[0]}?" if near else f"folders there: {_some(there)}."
        raise InputError(f"data.{field}: no folder {folder}; {remedy} Name it with data.{field}=...")
    return folder


def _files(folder: Path) -> dict[str, list[Path]]:
    """Image files by stem, below a folder."""

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); expected a readable folder")

    found: dict[str, list[Path]] = defaultdict(list)
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if links := [name for name in folders if Path(parent, name).is_symlink()]:
            raise InputError(
                f"{Path(parent, links[0])}: a link to a folder is not followed; put the folder itself there"
            )
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        for name in sorted(name for name in names if not name.startswith(".")):
            if not _is_utf8(f"{below}/{name}"):
                path = os.fsencode(Path(parent, name))
                raise InputError(f"{path!r} is not UTF-8, so that it cannot be written into reports; rename it")
            stem, _, suffix = name.rpartition(".")
            if f".{suffix.lower()}" in SUFFIXES:
                stem = stem if below == "." else f"{below}/{stem}"
                found[unicodedata.normalize("NFC", stem)].append(Path(parent, name))
            else:
                others[f".{suffix}" if stem else name] += 1
    if not found:
        content = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        kinds = ", ".join(sorted(SUFFIXES))
        raise InputError(f"{folder}: no images in it, but {content or 'nothing at all'}; expected files of {kinds}")
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pair(
    split: Split | None, root: Path, images: dict[str, list[Path]], masks: dict[str, list[Path]], mask_folder: Path
) -> tuple[list[Pair], list[Path]]:
    """Images with their masks, and the masks that are left."""
    whole: dict[str, list[Path]] = defaultdict(list)
    parts: dict[str, list[Path]] = defaultdict(list)
    masks_alone: list[Path] = []
    for mask_stem, files in masks.items():
        owner = _owner(mask_stem, images)
        if owner is None:
            masks_alone += files
        else:
            (whole if owner == mask_stem else parts)[owner] += files
    pairs = []
    for stem, files in images.items():
        found = whole[stem] or sorted(parts[stem])
        trouble = (
            _ambiguous(files)
            or _ambiguous(whole[stem])
            or _missing(files[0], found, f"{mask_folder}/{stem}")
            or _twofold(whole[stem], parts[stem])
            or next((gone for path in (files[0], *found) if (gone := _leaving(path, root))), None)
        )
        pairs.append(Pair(stem, files[0], tuple(found), not whole[stem], split, trouble))
    return pairs, masks_alone


def _owner(mask_stem: str, images: Collection[str]) -> str | None:
    """The image a mask belongs to: its namesake, the one its folder is named after, or the name before ``__``."""
    words = mask_stem.split("__")
    prefixes = ("__".join(words[:count]) for count in range(len(words) - 1, 0, -1))
    names = (mask_stem, mask_stem.rpartition("/")[0], *prefixes)
    return next((name for name in names if name in images), None)


def _ambiguous(files: list[Path]) -> Problem | None:
    if len(files) < 2:
        return None
    found = f"{_some([path.name for path in files[1:]])} beside it differs in the suffix only"
    return Problem("duplicate stem", files[0], found, "keep one of them, or rename")


def _missing(image: Path, masks: list[Path], expected: str) -> Problem | None:
    if masks:
        return None
    found = f"neither {expected}.png (or .tif ...) nor files in {expected}"
    return Problem("missing mask", image, found, "add the mask, or move the image elsewhere")


def _twofold(whole: list[Path], parts: list[Path]) -> Problem | None:
    if not (whole and parts):
        return None
    found = f"{parts[0]} and {len(parts) - 1} more are masks of the same image"
    return Problem("two kinds of masks", whole[0], found, "keep the label image or the masks of single objects")


def _leaving(path: Path, root: Path) -> Problem | None:
    if not path.is_symlink() or (target := Path(os.path.realpath(path))).is_relative_to(os.path.realpath(root)):
        return None
    return Problem("link out of the data root", path, f"leads to {target}", "put the file itself there")


def _some(names: Collection[str]) -> str:
    """A few of the names, and how many more there are."""
    shown = ", ".join(list(names)[:3])
    return (f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown) or "none"
