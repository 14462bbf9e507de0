"""How many clicks an object takes, from the IoU after each of them.

Sofiiuk et al. 2022 (RITM), whose conventions the published tables share. A list of IoUs that ends before the last
click stays where it ended: a person who is content clicks no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_CLICKS = 20
THRESHOLDS = (0.85, 0.9)


@dataclass(frozen=True)
class ClicksToReach:
    """Clicks that objects take to an IoU.

    Attributes:
        threshold: The IoU to reach.
        noc: Mean number of clicks (NoC); an object that never gets there counts as the largest number.
        failures: Objects that never get there.
        num_over_max: Objects that count as the largest number, which those are too that get there with the very last
            click: the failures of published tables.
    """

    threshold: float
    noc: float
    failures: int
    num_over_max: int


@dataclass(frozen=True)
class ClickScores:
    """Scores of clicking.

    Attributes:
        curve: Mean IoU after each number of clicks, from 1.
        reached: For each threshold, what it takes to get there.
    """

    curve: tuple[float, ...]
    reached: tuple[ClicksToReach, ...]


def number_of_clicks(ious: Sequence[float], threshold: float, max_clicks: int = MAX_CLICKS) -> int:
    """Find the first click after which an object's IoU is at least ``threshold``; ``max_clicks`` if there is none."""
    return _first_reaching(ious, threshold, max_clicks) or max_clicks


def is_failure(ious: Sequence[float], threshold: float, max_clicks: int = MAX_CLICKS) -> bool:
    """Say whether an object's IoU is below ``threshold`` after each of ``max_clicks`` clicks."""
    return _first_reaching(ious, threshold, max_clicks) is None


def _first_reaching(ious: Sequence[float], threshold: float, max_clicks: int) -> int | None:
    # As 32-bit numbers, which IoUs are: 9 pixels of 10 reach 0.9.
    (reached,) = np.nonzero(np.asarray(ious[:max_clicks], np.float32) >= np.float32(threshold))
    return int(reached[0]) + 1 if reached.size else None


def score_clicks(
    objects: Sequence[Sequence[float]], thresholds: Sequence[float] = THRESHOLDS, max_clicks: int = MAX_CLICKS
) -> ClickScores:
    """Score objects by their IoU after each click.

    Args:
        objects: For each object its IoU after the first click, the second and so on, at least one.
        thresholds: IoUs to reach.
        max_clicks: The most that a person would make.
    """
    assert len(objects) > 0 < min(map(len, objects)), "an object has an IoU after its first click"
    held = [[*ious[:max_clicks], *[ious[-1]] * (max_clicks - len(ious))] for ious in objects]
    reached = []
    for threshold in thresholds:
        clicks = [number_of_clicks(ious, threshold, max_clicks) for ious in objects]
        failures = sum(is_failure(ious, threshold, max_clicks) for ious in objects)
        over = sum(number == max_clicks for number in clicks)
        reached.append(ClicksToReach(threshold, sum(clicks) / len(clicks), failures, over))
    return ClickScores(tuple(np.mean(held, axis=0).tolist()), tuple(reached))
