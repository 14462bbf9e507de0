"""Folders of images and masks, and the image files in them."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from sam_train.data.sources.base import Split
from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.other_kinds import other_kinds
from sam_train.data.sources.splits import SPLITS
from sam_train.errors import InputError


def find_folders(root: Path, images: str, masks: str, links: bool) -> Iterator[tuple[Split | None, Path, Path]]:
    """Yield the folders of images and of masks, of each ready split or of all.

    Raises:
        InputError: If there are none, they lie outside ``root`` or in each other, or it is not clear what splits are.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; it should hold {images}/ and {masks}/")
    inside = partial(_inside, root, links=links)
    if (root / images).is_dir():
        image_folder, mask_folder = inside(images, "images"), inside(masks, "masks")
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
                yield split, inside(f"{images}/{split}", "images"), inside(f"{masks}/{split}", "masks")
    else:
        ready = _ready_split(root, Path(images))
        if not ready:
            inside(images, "images")
        for split in ready:
            yield split, inside(f"{split}/{images}", "images"), inside(f"{split}/{masks}", "masks")


def _ready_split(parent: Path, below: Path) -> list[Split]:
    """Return the splits that have a folder of their own."""
    names = {folder.name for folder in parent.iterdir() if (folder / below).is_dir() and folder.name[0] != "."}
    ready: list[Split] = [split for split in SPLITS if split in names]
    if others := sorted(names.difference(ready)) if ready else []:
        raise InputError(
            f"{parent} holds the split folders {', '.join(ready)} and also {some_of(others)}; "
            f"call split folders {', '.join(SPLITS)} and move others elsewhere"
        )
    return ready


def _inside(root: Path, name: str, field: str, links: bool) -> Path:
    folder = root / name
    by_name = Path(os.path.normpath(folder)).is_relative_to(os.path.normpath(root))
    if not by_name or not (links or Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))):
        follow = ", or set data.links=true to follow links" if by_name else ""
        raise InputError(f"data.{field}: {folder} leads out of {root}; name a folder inside data.root{follow}")
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) if folder.parent.is_dir() else []
        lower = {other.lower(): other for other in there}
        near = [lower[match] for match in difflib.get_close_matches(folder.name.lower(), lower, n=1)]
        remedy = f"did you mean {near[0]}?" if near else f"folders there: {some_of(there)}."
        raise InputError(f"data.{field}: no folder {folder}; {remedy} Name it with data.{field}=...{other_kinds(root)}")
    return folder


def list_images(root: Path, folder: Path, links: bool) -> dict[str, list[Path]]:
    """Return image files below a folder by stem: their path there, with ``/`` and without suffix.

    Raises:
        InputError: If there are none, a name is not UTF-8, or a folder is a link that is not to be followed.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); expected a readable folder")

    found: dict[str, list[Path]] = defaultdict(list)
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=stop, followlinks=links):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for linked in (Path(parent, name) for name in folders if Path(parent, name).is_symlink()):
            if not links:
                remedy = "put the folder itself there, or set data.links=true"
                raise InputError(f"{linked}: a link to a folder is not followed; {remedy}")
            if Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(linked)):
                raise InputError(f"{linked}: a link to a folder that it lies in; remove it")
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
        found_there = f"no images in it, but {content or 'nothing at all'}"
        raise InputError(f"{folder}: {found_there}; expected files of {kinds}{other_kinds(root)}")
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def some_of(names: Collection[str]) -> str:
    """Return a few of the names, and how many more there are."""
    shown = ", ".join(list(names)[:3])
    return (f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown) or "none"
