"""Pairs the image files of a folder with their mask files."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from sam_train.data.sources.base import Split
from sam_train.data.sources.listing import find_folders, list_images, some_of
from sam_train.data.sources.other_kinds import other_kinds
from sam_train.data.sources.tiff_files import count_pages
from sam_train.errors import FileError, InputError, Problem


@dataclass(frozen=True)
class Pair:
    """An image file and its mask files.

    Attributes:
        stem: Path of the image below its images folder, with ``/`` and without suffix.
        image: The image file.
        masks: One label image, or one binary image per object.
        per_object: Whether they are one per object.
        split: The ready split in whose folder it lies, if the folders are split.
        problem: The reason why these files cannot be used; None if they can be read.
        page: Number of the page in both files, from 0, where each page is an image.
    """

    stem: str
    image: Path
    masks: tuple[Path, ...]
    per_object: bool
    split: Split | None
    problem: Problem | None
    page: int | None = None

    @property
    def id(self) -> str:
        """Return the stem, after the split's name where splits may use a stem twice, and before the page's number."""
        return self.of_page(f"{self.split}/{self.stem}" if self.split else self.stem, "/page_")

    @property
    def file_name(self) -> str:
        """Return the image's path below its images folder."""
        return f"{self.stem}{self.image.suffix}"

    def of_page(self, text: str, before: str = " page ") -> str:
        """Return a text of the file as one of the page."""
        return text if self.page is None else f"{text}{before}{self.page:04}"


def find_pairs(
    root: Path, images: str, masks: str, links: bool = False, image_end: str = "", mask_end: str = ""
) -> tuple[list[Pair], list[Problem]]:
    """Find all images below ``root``, in the order of their ids, and the problems that belong to no image.

    Masks of an image ``a.png`` are the file ``masks/a.*``, or one file per object in ``masks/a/*`` or ``masks/a__*``.
    Folders may have sub-folders, the same in both. Hidden files and files of other kinds are skipped.

    A ready split is recognized where there is no folder ``root/images`` but one of ``root/train/images``,
    ``root/val/images`` and ``root/test/images``, or where ``root/images`` holds folders of these names.

    Args:
        root: The folder that holds all others.
        images: Folder of the images below it.
        masks: Folder of the masks below it.
        links: Whether links may lead out of it.
        image_end: What the names of images end in before the suffix and those of masks do not; others are skipped.
        mask_end: Likewise of masks.

    Raises:
        InputError: If a folder is missing, empty or a link, if no image has a mask, or if it is not clear what the
            splits are.
    """
    pairs: list[Pair] = []
    loose_ends: list[Problem] = []
    for split, image_folder, mask_folder in find_folders(root, images, masks, links):
        image_files = _ending(list_images(root, image_folder, links), image_end, image_folder)
        mask_files = _ending(list_images(root, mask_folder, links), mask_end, mask_folder)
        found, masks_alone = _pair(split, None if links else root, image_files, mask_files, mask_folder)
        if not any(pair.masks for pair in found):
            raise InputError(
                f"none of the {len(found)} images in {image_folder} has a mask: {found[0].image.name} looks for "
                f"{mask_folder / found[0].stem}.png, but there are {some_of([path.name for path in masks_alone])}; "
                f"give masks the names of their images, apart from the suffix{other_kinds(root)}"
            )
        pairs += found
        remedy = "add its image, or move the mask elsewhere"
        loose_ends += [Problem("mask without image", path, "no image has this name", remedy) for path in masks_alone]
    return sorted(pairs, key=lambda pair: pair.id), loose_ends


def labelled(pairs: list[Pair], root: Path) -> list[Pair]:
    """Return the pairs that have a mask, with a warning that tells how many have none."""
    found = [pair for pair in pairs if pair.masks]
    if left := len(pairs) - len(found):
        warnings.warn(f"{root}: {left} of {len(pairs)} images have no mask; left out", stacklevel=3)
    return found


def pages_of(pair: Pair) -> list[Pair]:
    """Return a pair for each page of its files; itself with a problem where they have not the same pages.

    Raises:
        FileError: If a file is damaged.
    """
    if pair.problem:
        return [pair]
    if pair.per_object:
        found = "several mask files, where each page is an image"
        remedy = "give one mask file of as many pages"
        return [replace(pair, problem=Problem("pages and objects", pair.image, found, remedy))]
    try:
        number, others = count_pages(pair.image), count_pages(pair.masks[0])
    except FileError as error:
        return [replace(pair, problem=error.problem)]
    if number != others:
        found = f"has {others} pages, but {pair.image} has {number}"
        remedy = "give image and mask the same pages"
        return [replace(pair, problem=Problem("pages that do not fit", pair.masks[0], found, remedy))]
    return [replace(pair, page=page) for page in range(number)] if number > 1 else [pair]


def _ending(files: dict[str, list[Path]], end: str, folder: Path) -> dict[str, list[Path]]:
    """Return the files whose stem ends like this, by the stem without the end."""
    if not end:
        return files
    if not (found := {stem.removesuffix(end): paths for stem, paths in files.items() if stem.endswith(end)}):
        there = some_of(sorted(files))
        raise InputError(f"{folder}: no name ends in {end!r} (data.image_end, data.mask_end), such as {there}")
    return found


def _pair(
    split: Split | None,
    root: Path | None,
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    mask_folder: Path,
) -> tuple[list[Pair], list[Path]]:
    """Return images with their masks, and the masks that are left; no file must lead out of ``root`` if it is given."""
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
    """Return the image of a mask: its namesake, the one its folder is named after, or the name before ``__``."""
    words = mask_stem.split("__")
    prefixes = ("__".join(words[:count]) for count in range(len(words) - 1, 0, -1))
    names = (mask_stem, mask_stem.rpartition("/")[0], *prefixes)
    return next((name for name in names if name in images), None)


def _ambiguous(files: list[Path]) -> Problem | None:
    if len(files) < 2:
        return None
    found = f"{some_of([path.name for path in files[1:]])} beside it differs in the suffix only"
    return Problem("duplicate stem", files[0], found, "keep one of them, or rename")


def _missing(image: Path, masks: list[Path], expected: str) -> Problem | None:
    if masks:
        return None
    found = f"neither {expected}.png (or .tif ...) nor files in {expected}"
    remedy = "add the mask, move the image elsewhere, or leave out all images without one: data.skip_unlabelled=true"
    return Problem("missing mask", image, found, remedy)


def _twofold(whole: list[Path], parts: list[Path]) -> Problem | None:
    if not (whole and parts):
        return None
    found = f"{parts[0]} and {len(parts) - 1} more are masks of the same image"
    return Problem("two kinds of masks", whole[0], found, "keep the label image or the masks of single objects")


def _leaving(path: Path, root: Path | None) -> Problem | None:
    if root is None or not path.is_symlink():
        return None
    if (target := Path(os.path.realpath(path))).is_relative_to(os.path.realpath(root)):
        return None
    remedy = (
        "put the file itself there, or set data.links=true to follow links, as those into a store of git-annex or DVC"
    )
    return Problem("link out of the data root", path, f"leads to {target}", remedy)
