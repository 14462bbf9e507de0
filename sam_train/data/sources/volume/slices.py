"""Slices of all volumes of a source, and their splits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.data.sources.splits import SPLITS, assign_splits, require_whole_groups
from sam_train.data.sources.volume.case_index import CaseIndex
from sam_train.data.sources.volume.cases import Case
from sam_train.data.sources.volume.images import VolumeImages
from sam_train.data.sources.volume.opening import OpenVolumes
from sam_train.errors import InputError, Problem
from sam_train.machine import num_processors


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


def scan_all(cases: Sequence[Case], scan: Callable[[Case], Scan], index: CaseIndex) -> list[Scan]:
    """Return what the labels of all volumes say, from an earlier start where it is known.

    Threads read them, because decompressing releases Python's lock.

    Args:
        cases: The volumes.
        scan: Reads the labels of one.
        index: What is known from an earlier start.
    """

    def known(case: Case) -> Scan:
        before = index.read(case)
        if "places" in before and "names" in before:
            return Scan(before["places"], before["names"])
        found = scan(case)
        if found.problem is None:
            index.add(case, {"places": list(found.places), "names": list(found.names)})
        return found

    with ThreadPoolExecutor(min(num_processors(), 8)) as pool:
        return list(pool.map(known, cases))


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
    index: CaseIndex,
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
        index=index,
    )


def split_slices(
    images: VolumeImages, fractions: Sequence[float], seed: int, num_shared: int | None = None
) -> dict[Split, ImageSet]:
    """Split slices by shares, so that no group is in two splits; those of the only group with a warning.

    Args:
        images: The slices.
        fractions: Shares of train, val and test.
        seed: Another seed gives another split.
        num_shared: Number of volumes that are split; those after them are the test. None for all.

    Raises:
        InputError: See :func:`sam_train.data.sources.splits.assign_splits`; or if a group is in the test and not.
    """
    is_test = images.case >= (len(images.volumes.cases) if num_shared is None else num_shared)
    if is_test.any():
        train, val, _ = fractions
        fractions = (train / (train + val), val / (train + val), 0.0)
        shared = _chosen(images, np.flatnonzero(~is_test))
        splits: dict[Split, ImageSet] = {
            **split_slices(shared, fractions, seed),
            "test": _chosen(images, np.flatnonzero(is_test)),
        }
        groups = [part.group(row) for part in splits.values() for row in range(len(part))]
        require_whole_groups(groups, groups, [split for split, part in splits.items() for _ in range(len(part))])
        return splits
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
            splits[split] = _chosen(images, rows)
    return splits


def _chosen(images: VolumeImages, rows: Int[np.ndarray, "n"]) -> VolumeImages:
    ids = PackedTexts(images.ids[int(row)] for row in rows)
    return replace(images, ids=ids, case=images.case[rows], place=images.place[rows])
