"""Slices of all volumes of a source, and their splits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.splits import SPLITS, assign_splits
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.images import VolumeImages
from sam_train.data.sources.volume.opening import OpenVolumes
from sam_train.errors import InputError, Problem


class Scan(NamedTuple):
    """What the labels of a volume say.

    Attributes:
        places: Of the slices that count.
        names: Of the labels.
        problem: Why they cannot be read.
    """

    places: Sequence[int]
    names: Sequence[str]
    problem: Problem | None = None


def tell_empty(cases: Sequence[Case], scans: Sequence[Scan], root: Path) -> None:
    """Warn of volumes without labels.

    Raises:
        InputError: If none has any.
    """
    empty = [case.id for case, scan in zip(cases, scans, strict=True) if not scan.places]
    if len(empty) == len(cases):
        raise InputError(f"{root}: none of its {len(cases)} volumes has a label, such as {empty[0]}")
    if empty:
        text = f"{root}: {len(empty)} of {len(cases)} volumes have no label, such as {empty[0]}; left out"
        warnings.warn(text, stacklevel=3)


def slices_of(
    cases: Sequence[Case],
    scans: Sequence[Scan],
    volumes: OpenVolumes,
    groups: Sequence[str],
    objects: str,
    names: Sequence[str],
) -> VolumeImages:
    """Return all slices of all volumes."""
    axis = volumes.reading.axis
    return VolumeImages(
        ids=PackedTexts(
            f"{case.id}/{axis}_{place:04}" for case, scan in zip(cases, scans, strict=True) for place in scan.places
        ),
        volumes=volumes,
        case=np.repeat(np.arange(len(cases)), [len(scan.places) for scan in scans]),
        place=np.array([place for scan in scans for place in scan.places], np.int64),
        groups=tuple(groups),
        by_component=objects == "components",
        faults={index: scan.problem for index, scan in enumerate(scans) if scan.problem},
        categories=tuple(names),
    )


def split_slices(images: VolumeImages, fractions: Sequence[float], seed: int) -> dict[Split, ImageSet]:
    """Split slices by shares, so that no group is in two splits; those of the only group with a warning.

    Raises:
        InputError: See :func:`sam_train.data.sources.splits.assign_splits`.
    """
    groups = [images.group(index) for index in range(len(images))]
    is_one = len(set(groups)) == 1 and sum(fraction > 0 for fraction in fractions) > 1
    if is_one and len(groups) > 1:
        warnings.warn(
            f"{groups[0]} is the only patient: its slices are split. Neighbors look alike, so that scores say nothing "
            "of other patients",
            stacklevel=3,
        )
        groups = list(images.ids)
    assigned = np.array(assign_splits(groups, fractions, seed))
    splits: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if len(rows := (assigned == split).nonzero()[0]):
            ids = PackedTexts(images.ids[int(row)] for row in rows)
            splits[split] = replace(images, ids=ids, case=images.case[rows], place=images.place[rows])
    return splits
