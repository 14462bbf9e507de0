"""Small random decisions, each a cheap call on numpy's generator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True that often."""
    return rng.random() < probability


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in [low, high)."""
    return low + (high - low) * rng.random()


def log_between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in the logarithm, as sizes and counts are in nature; both bounds positive."""
    return low * math.exp(math.log(high / low) * rng.random())


def count(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int((high - low + 1) * rng.random())


def log_count(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included, small ones as likely as large ones per octave."""
    return min(int(log_between(rng, low, high + 1)), high)


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """Any of these, equally likely."""
    return options[int(rng.random() * len(options))]


def pick_weighted(rng: np.random.Generator, weights: Mapping[Option, float]) -> Option:
    """A key, as likely as its weight says."""
    remaining = rng.random() * sum(weights.values())
    for option, weight in weights.items():
        remaining -= weight
        if remaining < 0:
            return option
    *_, last = weights  # the sum's rounding error
    return last
