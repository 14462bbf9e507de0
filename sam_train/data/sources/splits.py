"""Splits images into those that train, those that choose the checkpoint and those of the final score."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from sam_train.data.sources.base import ImageSet, ImageSubset, Split
from sam_train.errors import InputError

SPLITS: tuple[Split, ...] = get_args(Split)
_ATTEMPTS = 16  # orders tried; with few groups, more orders seldom get nearer to the shares


def assign_splits(groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[Split]:
    """Return the split of each image, so that no group is in two splits.

    The result follows from the seed and the groups' names and sizes alone, on every platform and for every order of the
    images. A split's number of images is nearer to its share than the size of the largest group, unless there are so
    few groups that each split with a share just gets one. Of two groups the second validates and none is tested.

    Args:
        groups: Per image, the name of its group.
        fractions: Shares of train, val and test; they sum to 1.
        seed: Another seed gives another split.

    Raises:
        InputError: If the fractions are no shares, or all images are one group and more than one split has a share.
    """
    sizes = Counter(groups)
    shares = _shares(fractions)
    if len(sizes) < 2 <= len(shares):
        what = f"there is only 1 image ({groups[0]})" if len(groups) == 1 else f"all images are one group ({groups[0]})"
        remedy = "add images of another group, or set data.split=[0,0,1] to evaluate only"
        raise InputError(f"{what}, which cannot be split into {', '.join(shares)}; {remedy}")
    if len(sizes) < len(shares):
        shares.pop("test")
    targets: dict[Split, float] = {split: share * len(groups) for split, share in shares.items()}
    nearest: tuple[float, dict[str, Split]] = (math.inf, {})
    for attempt in range(_ATTEMPTS):
        order = sorted(sizes, key=lambda group: _rank(f"{seed}/{attempt}/{group}"))
        found = _fill(order, sizes, targets)
        nearest = min(nearest, found, key=lambda attempt: attempt[0])  # the first of equals
        if nearest[0] < 1:
            break
    return [nearest[1][group] for group in groups]


def _shares(fractions: Sequence[float]) -> dict[Split, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        expected = "the shares of train, val and test, such as [0.7,0.15,0.15], none negative and 1 in sum"
        raise InputError(f"data.split={list(fractions)}: expected {expected}")
    return {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}


def _rank(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _fill(
    order: Sequence[str], sizes: Mapping[str, int], targets: Mapping[Split, float]
) -> tuple[float, dict[str, Split]]:
    """Give each group in turn to the split that lacks most; return the largest miss of a target, and the splits."""
    missing, assigned = dict(targets), {}
    empty = dict.fromkeys(targets)
    for position, group in enumerate(order):
        choices = empty if len(empty) >= len(order) - position else targets
        split = max(choices, key=missing.__getitem__)
        assigned[group] = split
        missing[split] -= sizes[group]
        empty.pop(split, None)
    return max(map(abs, missing.values())), assigned


def split_by_group(images: ImageSet, fractions: Sequence[float], seed: int = 0) -> dict[Split, ImageSet]:
    """Split a set of images by shares, so that no group is in two splits.

    Args:
        images: The images, with their groups (:meth:`ImageSet.group`).
        fractions: Shares of train, val and test; they sum to 1.
        seed: Another seed gives another split.

    Raises:
        InputError: See :func:`assign_splits`.
    """
    assigned = assign_splits([images.group(index) for index in range(len(images))], fractions, seed)
    splits: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if indices := [row for row, found in enumerate(assigned) if found == split]:
            splits[split] = ImageSubset(images, indices)
    return splits


def require_whole_groups(names: Sequence[str], groups: Sequence[str], assigned: Sequence[Split | None]) -> None:
    """Refuse splits that share a group.

    Args:
        names: Per image, its name in the message.
        groups: Per image, the name of its group.
        assigned: Per image, its split; None for an image that is left out.

    Raises:
        InputError: If a group is in two splits.
    """
    first: dict[str, int] = {}
    for row, (group, split) in enumerate(zip(groups, assigned, strict=True)):
        if split is not None and assigned[first.setdefault(group, row)] != split:
            other = first[group]
            raise InputError(
                f"group {group!r} is in {assigned[other]} ({names[other]}) and in {split} ({names[row]}); "
                "a group must not be in two splits, so move all its images into one"
            )


def complete_splits(splits: Mapping[Split, ImageSet], where: str) -> dict[Split, ImageSet]:
    """Return the splits, with the validation images as the test where there is none; validation must exist.

    Args:
        splits: Splits that have images.
        where: Name of the data in messages.

    Raises:
        InputError: If there are training images and none to validate on.
    """
    complete = dict(splits)
    if "val" in splits and "test" not in splits:
        warnings.warn(
            f"{where}: no images for the test; those of val serve for it, and since the best checkpoint is chosen on "
            "them, its test scores come out a little too high",
            stacklevel=3,
        )
        complete["test"] = complete["val"]
    if "train" in splits and "val" not in splits:
        raise InputError(f"{where}: no images for val, by which the best checkpoint is chosen; give some to it")
    return complete
