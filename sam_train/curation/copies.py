"""Images that are in two splits, under whatever name: by content, and by how they look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from sam_train.curation.looks import alike
from sam_train.curation.scan import Scan


class Pair(NamedTuple):
    """Two images, by their rows in a scan."""

    one: int
    other: int


def same_content(scan: Scan, known_by: str) -> list[Pair]:
    """Return the images of two splits that are the same, a pair for each.

    Args:
        scan: Of all splits.
        known_by: ``identity``, by which training refuses them, or ``pixels``, which also finds another format's copy.
    """
    pairs = []
    for one, other in _splits(scan):
        _, first, second = np.intersect1d(scan.images[known_by][one], scan.images[known_by][other], return_indices=True)
        pairs += [Pair(int(one[i]), int(other[j])) for i, j in zip(first, second, strict=True)]
    return sorted(pairs)


def same_look(scan: Scan) -> list[Pair]:
    """Return images of two splits that look alike and are not the same: one pair for any two looks."""
    pairs = []
    for one, other in _splits(scan):
        one, other = (rows[scan.images["has_look"][rows]] for rows in (one, other))
        looks, first = np.unique(scan.images["look"][one], return_index=True)
        others, second = np.unique(scan.images["look"][other], return_index=True)
        for i, j in alike(looks, others):
            pair = Pair(int(one[first[i]]), int(other[second[j]]))
            if len(set(scan.images["pixels"][[*pair]].tolist())) == 2:
                pairs.append(pair)
    return sorted(pairs)


def num_repeated(scan: Scan) -> int:
    """Return how many images repeat the pixels of an earlier one of their split."""
    names = scan.images[["split", "pixels"]]
    return len(names) - len(np.unique(names))


def _splits(scan: Scan) -> Iterator[tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]]]:
    """Yield the rows of any two splits."""
    of_split: list[Shaped[np.ndarray, "n"]] = [
        np.flatnonzero(scan.images["split"] == split) for split in range(len(scan.splits))
    ]
    yield from combinations(of_split, 2)
