"""Any data set that the library ``datasets`` opens."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.hf.columns import Columns, find_columns, item_of
from sam_train.data.sources.hf.images import HfImages
from sam_train.data.sources.hf.opening import open_dataset
from sam_train.data.sources.hf.parquet import ParquetTable, open_parquet
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.pixel_source import PixelSource
from sam_train.data.sources.splits import SPLITS, assign_splits, complete_splits
from sam_train.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

_OBJECTS = ("labels", "binary", "components")
_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "val",
    "valid": "val",
    "val": "val",
    "dev": "val",
    "test": "test",
}


@dataclass(frozen=True)
class HfSource(PixelSource):
    """Rows with an image and its masks: of parquet, arrow, ``save_to_disk``, ``imagefolder``, or of the hub.

    Masks are label images, lists of binary images, run lengths, or COCO's objects with a segmentation.

    Attributes:
        root: A local folder or table; nothing outside it is read.
        hub: Name on the hub instead, as ``owner/name``.
        subset: Name of the data set's configuration.
        streaming: Read local parquet files where they lie, without the copy that ``datasets`` makes of them.
        image_column: Of the images; None where one column plainly is.
        mask_column: Of the masks; None where one column plainly is.
        group_column: Of the patient, slide or video that must not be in two splits.
        train: Name of the split to train on; None for the one that is called so.
        val: Name of the split to validate on. Where there is none, a share of the training images.
        test: Name of the split to report on.
        objects: What a mask image holds: ``labels``, ``binary`` or ``components``.
        background: The number of background in mask images.
        ignore: Numbers of pixels that are neither object nor background, such as 255.
        split: Shares of train, val and test, where the data set has not these splits.
        split_seed: Another seed gives another split by shares.
        on_error: What happens where a record cannot be read: ``stop``, or ``skip`` it and name it in a file.
        check: Whether all rows are read and checked before training.
    """

    root: str | None = None
    hub: str | None = None
    subset: str | None = None
    streaming: bool = False
    image_column: str | None = None
    mask_column: str | None = None
    group_column: str | None = None
    train: str | None = None
    val: str | None = None
    test: str | None = None
    objects: str = "labels"
    background: int = 0
    ignore: Sequence[int] = ()
    split: Sequence[float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    on_error: str = "stop"
    check: bool = True

    def splits(self) -> dict[Split, ImageSet]:
        """Return the splits that have images.

        Raises:
            InputError: If the data set cannot be opened, or settings and columns do not fit each other.
        """
        if (self.root is None) == (self.hub is None):
            raise InputError("data=hf reads data.root=<folder or table> or data.hub=<owner/name>; give one of them")
        if self.objects not in _OBJECTS:
            raise InputError(f"data.objects={self.objects}: expected one of {', '.join(_OBJECTS)}")
        self.tones()
        root = None if self.root is None else Path(str(self.root)).expanduser().absolute()
        if root is not None and not root.exists():
            raise InputError(f"data.root={root}: no such file or folder")
        where = str(root or self.hub)
        tables = open_parquet(root, _NAMES) if self.streaming else open_dataset(root, self.hub, self.subset)
        images: dict[Split, HfImages] = {}
        for split, name in self._named(tables).items():
            images[split] = self._images(name, tables[name], where, root)
        return complete_splits(_completed(images, self.split, self.split_seed), where)

    def _named(self, tables: Mapping[str, Any]) -> dict[Split, str]:
        """Return the data set's split of each of ours."""
        given: dict[Split, str] = {split: name for split in SPLITS if (name := getattr(self, split)) is not None}
        if missing := [name for name in given.values() if name not in tables]:
            raise InputError(f"no split {missing[0]!r} in the data set; there are {', '.join(tables)}")
        found = dict(given)
        for name in tables:
            split = _NAMES.get(name.lower())
            if split and name not in given.values():
                found.setdefault(split, name)
        if not found and len(tables) == 1:
            return {"train": next(iter(tables))}
        if "train" not in found and not given:
            raise InputError(f"no training split; there are {', '.join(tables)}: say which with data.train=...")
        return found

    def _images(self, name: str, table: Dataset | ParquetTable, where: str, root: Path | None) -> HfImages:
        from datasets import config

        columns = find_columns(table.features, self.image_column, self.mask_column, where)
        group = self.group_column
        if group is not None and group not in table.features:
            raise InputError(f"data.group_column={group}: no such column; there are {', '.join(table.features)}")
        groups = (table.column(group) if isinstance(table, ParquetTable) else table[group]) if group else ()
        ids = PackedTexts(f"{name}/{row:06}" for row in range(len(table)))
        own = Path(config.HF_CACHE_HOME) if root is None else root if root.is_dir() else root.parent
        return HfImages(
            ids=ids,
            groups=PackedTexts(map(str, groups)) if groups else ids,
            rows=np.arange(len(table)),
            table=_undecoded(table.select_columns([columns.image, columns.mask]), columns),
            columns=columns,
            where=where,
            roots=(Path(os.path.realpath(own)),),
            objects=self.objects,
            background=self.background,
            ignore=tuple(self.ignore),
            names=_category_names(table.features[columns.mask]),
            tones=self.tones(),
        )


def _undecoded(table: Dataset | ParquetTable, columns: Columns) -> Dataset | ParquetTable:
    """Return the table with images as bytes or paths."""
    import datasets

    if isinstance(table, ParquetTable):
        return table

    plain = datasets.Image(decode=False)
    table = table.cast_column(columns.image, plain)
    if columns.kind == "outlines":
        return table
    return table.cast_column(columns.mask, plain if columns.kind == "image" else datasets.List(plain))


def _category_names(feature: Any) -> tuple[str, ...]:
    """Return the names of the objects' categories, where the column says them."""
    content = feature if isinstance(feature, dict) else item_of(feature)
    for inner in content.values() if isinstance(content, dict) else ():
        if names := getattr(inner, "names", None) or getattr(item_of(inner), "names", None):
            return tuple(names)
    return ()


def _completed(images: Mapping[Split, HfImages], fractions: Sequence[float], seed: int) -> dict[Split, ImageSet]:
    """Split the training images by shares where other splits are missing: all of one split, validation of several."""
    if "val" in images or "train" not in images:
        return dict(images)
    of = images["train"]
    train, val, test = fractions
    if "test" in images:
        train, val, test = train / (train + val), val / (train + val), 0.0
    assigned = np.array(assign_splits(list(of.groups), (train, val, test), seed))
    splits: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if len(rows := (assigned == split).nonzero()[0]):
            ids, groups = (PackedTexts([texts[int(row)] for row in rows]) for texts in (of.ids, of.groups))
            splits[split] = replace(of, ids=ids, groups=groups, rows=rows)
    return {**splits, **({"test": images["test"]} if "test" in images else {})}
