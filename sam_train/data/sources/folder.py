"""A folder of images and a folder of masks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.color_tables import read_colors
from sam_train.data.sources.folder_images import FolderImages
from sam_train.data.sources.folder_masks import FolderMasks, Objects
from sam_train.data.sources.given import read_given
from sam_train.data.sources.groups import match_groups
from sam_train.data.sources.index_files import has_lists, read_column, read_lists, read_split_column
from sam_train.data.sources.pairing import Pair, find_pairs, labelled, pages_of
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.safe_walk import inside
from sam_train.data.sources.splits import SPLITS, assign_splits, complete_splits, require_whole_groups
from sam_train.errors import InputError

_FRACTIONS = (0.7, 0.15, 0.15)
_SPLIT_WORDS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


@dataclass(frozen=True)
class FolderSource(PixelSource):
    """Images and masks in folders, paired by name as :func:`.pairing.find_pairs` documents.

    Attributes:
        root: The folder that holds all others; nothing outside it is read, except through ``links``.
        images: Folder of the images below ``root``.
        masks: Folder of the masks below ``root``.
        objects: What a mask file holds. ``labels``: every number but that of background is an object. ``binary``: all
            numbers but that of background are one object. ``components``: every connected piece of one number is an
            object. Pixels that touch at a corner are connected, or a thin slanting line would be as many objects as it
            has pixels. Where there is one file per object, each file is one object, whatever this setting.
        background: The number of background in mask files. It changes places with 0 (of negative numbers all go up).
            None for 0, with a question in the check if most masks look as if another number were the background. Of
            ``colors`` a name; None for black.
        ignore: Numbers of pixels that are neither object nor background, such as 255 in PASCAL VOC: they count in no
            loss, prompt or score. Of ``colors`` names.
        colors: Table below ``root`` that says which color of a mask is what (:mod:`.color_tables`): csv or json. Each
            color is an object of that category, or with ``components`` each of its pieces.
        pages: Whether each page of a TIFF file is an image, and the same page of its mask file its mask. The pages of
            a file are a group.
        image_end: What names of images end in before the suffix, and those of masks do not, such as ``_leftImg8bit``.
            Other images are skipped.
        mask_end: Likewise of masks, such as ``_gtFine_color``.
        skip_unlabelled: Whether images without a mask are left out, with a warning, rather than reported.
        allow_empty: Whether a mask without objects means that the image has none. Such an image gives no prompts and
            no score. If false, :func:`sam_train.data.sources.check.check_sources` reports it.
        boxes: File of boxes below ``root``, as of a detector, which ``prompts=given`` gives (:mod:`.prompt_files`).
        points: Likewise of points.
        links: Whether links may lead out of ``root``, as into a store of git-annex or DVC.
        split: Shares of train, val and test, where there are no split folders, no ``split_column`` and no
            ``train.txt``, ``val.txt`` or ``test.txt`` in ``lists`` (images in none of these lists are left out).
        lists: Folder of these lists below ``root``, such as ``ImageSets/Segmentation``.
        split_seed: Another seed gives another split by shares.
        split_column: Column of ``root/index.csv`` that holds train, val or test.
        group_pattern: Regular expression, searched in the image's path below ``images`` without suffix. Its first
            group, or else the whole match, names the patient, slide or video that must not be in two splits.
        group_column: Column of ``root/index.csv`` that names the group instead.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all files are read and checked before training.
    """

    root: str
    images: str = "images"
    masks: str = "masks"
    objects: Objects = "labels"
    background: int | str | None = None
    ignore: Sequence[int | str] = ()
    colors: str | None = None
    pages: bool = False
    image_end: str = ""
    mask_end: str = ""
    skip_unlabelled: bool = False
    allow_empty: bool = False
    boxes: str | None = None
    points: str | None = None
    links: bool = False
    split: Sequence[float] = _FRACTIONS
    split_seed: int = 0
    lists: str = ""
    split_column: str | None = None
    group_pattern: str | None = None
    group_column: str | None = None
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have images, in order of their ids. Files are listed, not opened.

        Where no images are left for the test, the validation images serve for it, with a warning.

        Raises:
            InputError: If folders, tables, lists and options do not fit each other.
        """
        if self.objects not in get_args(Objects):
            near = difflib.get_close_matches(self.objects, get_args(Objects), n=1, cutoff=0)
            raise InputError(
                f"data.objects={self.objects}: expected {', '.join(get_args(Objects))}; nearest: {near[0]}"
            )
        if isinstance(self.split, (int, float, str)):
            raise InputError(f"data.split={self.split}: expected shares of train, val and test, as [0.7,0.15,0.15]")
        tones = self.tones()
        root = Path(str(self.root)).expanduser().absolute()  # a folder's name may look like a number
        masks = self._masks(root)
        ends = str(self.image_end), str(self.mask_end)
        pairs, loose_ends = find_pairs(root, str(self.images), str(self.masks), self.links, *ends)
        if self.skip_unlabelled:
            pairs = labelled(pairs, root)
        if self.pages:
            pairs = [page for pair in pairs for page in pages_of(pair)]
        given = read_given(root, self.boxes, self.points)
        given.require_known([pair.file_name for pair in pairs], len(pairs))
        groups = self._groups(root, pairs)
        assigned = self._assigned(root, pairs, groups)
        require_whole_groups([str(pair.image) for pair in pairs], groups, assigned)
        splits: dict[Split, ImageSet] = {}
        for split in SPLITS:
            if rows := [row for row, found in enumerate(assigned) if found == split]:
                splits[split] = FolderImages(
                    ids=tuple(pairs[row].id for row in rows),
                    pairs=tuple(pairs[row] for row in rows),
                    groups=tuple(groups[row] for row in rows),
                    masks=masks,
                    allow_empty=self.allow_empty,
                    loose_ends=tuple(loose_ends),
                    tones=tones,
                    given=given,
                )
        return complete_splits(splits, str(root))

    def _masks(self, root: Path) -> FolderMasks:
        """Return what reads masks, names of colors as their numbers.

        Raises:
            InputError: If settings do not fit each other, or the table of colors cannot be read.
        """
        colors = None if self.colors is None else read_colors(inside(root, str(self.colors), "data.colors"))
        kinds, words = (int, "whole numbers in brackets, such as [255]")
        if colors is not None:
            kinds, words = ((int, str), "names of colors in brackets, such as [void]")
        is_list = isinstance(self.ignore, Sequence) and not isinstance(self.ignore, str)
        if not is_list or not all(isinstance(one, kinds) for one in self.ignore):
            raise InputError(f"data.ignore={self.ignore}: expected {words}")
        if (self.background or 0) in list(self.ignore):
            raise InputError(f"data.ignore={list(self.ignore)} names data.background={self.background or 0}, too")
        if colors is None:
            if isinstance(self.background, str):
                raise InputError(f"data.background={self.background}: expected a number, or a name of data.colors=...")
            return FolderMasks(self.objects, self.background, self.ignore)  # pyright: ignore[reportArgumentType]
        ignore = tuple(colors.number(name) for name in self.ignore)
        return FolderMasks(self.objects, colors.number(self.background or 0), ignore, colors)

    def _groups(self, root: Path, pairs: Sequence[Pair]) -> list[str]:
        if self.group_pattern is not None and self.group_column is not None:
            raise InputError("data.group_pattern and data.group_column both say what a group is; give one of them")
        if self.group_column is not None:
            return read_column(root, self.group_column, pairs, self.images)
        if self.group_pattern is not None:
            return match_groups(self.group_pattern, [pair.stem for pair in pairs])
        return [pair.id if pair.page is None else replace(pair, page=None).id for pair in pairs]

    def _assigned(self, root: Path, pairs: Sequence[Pair], groups: Sequence[str]) -> Sequence[Split | None]:
        lists = inside(root, self.lists, "data.lists") if self.lists else root
        ways = {
            "split folders": pairs[0].split is not None,
            "data.split_column": self.split_column is not None,
            "list files (train.txt, val.txt, test.txt)": has_lists(lists),
            "data.split": tuple(self.split) != _FRACTIONS,
        }
        if len(given := [way for way, is_given in ways.items() if is_given]) > 1:
            raise InputError(f"{root}: {' and '.join(given)} all say how to split; leave only one of them")
        if pairs[0].split is not None:
            return [pair.split for pair in pairs]
        if self.split_column is not None:
            return read_split_column(root, self.split_column, pairs, self.images)
        if has_lists(lists):
            return read_lists(lists, pairs, self.images)
        if self.lists:
            raise InputError(f"data.lists={self.lists}: no train.txt, val.txt or test.txt in {lists}")
        if tuple(self.split) == _FRACTIONS:
            _refuse_other_words(root, pairs)
        return assign_splits(groups, self.split, self.split_seed)


def _refuse_other_words(root: Path, pairs: Sequence[Pair]) -> None:
    """Refuse to split by shares where folders such as ``Training`` already keep splits apart."""
    folders = {pair.stem.split("/")[0] for pair in pairs if "/" in pair.stem}
    if words := sorted(folder for folder in folders if folder.casefold() in _SPLIT_WORDS):
        raise InputError(
            f"{root}: images lie in folders called {', '.join(words)}. If these are splits, call them "
            f"{', '.join(SPLITS)}, or say with lists or data.split_column what each image is for; if they are not, "
            "give shares of your own, such as data.split=[0.8,0.1,0.1]"
        )
