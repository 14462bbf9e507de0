"""Which images train, which choose the checkpoint and which are kept for the final score."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from sam_train.data.source import Split
from sam_train.structures import InputError

SPLITS: tuple[Split, ...] = get_args(Split)
_ATTEMPTS = 16  # orders tried; with few groups, more of them seldom get nearer


def assign_splits(groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[Split]:
    """The split of each image, so that no group is in two.

    It follows from the seed and the groups' names and sizes alone, on every platform and for every order of the images.
    A split's number of images is nearer to its share than the size of the largest group, unless there are so few groups
    that none is left to choose from: each split with a share gets a group first. Of two groups the second validates
    and nothing is left for the test.

    Args:
        groups: Per image, what must stay together.
        fractions: Shares of train, val and test; they sum to 1.
        seed: Another seed, another split.

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
    """Each group in turn to the split that lacks most; how far the worst split ends from its target."""
    missing, assigned = dict(targets), {}
    empty = dict.fromkeys(targets)
    for position, group in enumerate(order):
        choices = empty if len(empty) >= len(order) - position else targets
        split = max(choices, key=missing.__getitem__)
        assigned[group] = split
        missing[split] -= sizes[group]
        empty.pop(split, None)
    return max(map(abs, missing.values())), assigned
