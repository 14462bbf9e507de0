"""Metrics straight from their definitions, slow and obvious."""

import math
from itertools import product

import numpy as np


def pixels(mask: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.argwhere(mask).tolist()))


def edge(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Pixels of which a neighbor along an axis is no pixel of the mask."""
    inside = pixels(mask)
    steps = [step for step in product((-1, 0, 1), repeat=mask.ndim) if np.abs(step).sum() == 1]
    return [pixel for pixel in sorted(inside) if any(tuple(np.add(pixel, step)) not in inside for step in steps)]


def distances(mask: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """From each edge pixel of a mask to the nearest one of the other."""
    scaled = [[tuple(np.multiply(point, spacing)) for point in edge(one)] for one in (mask, other)]
    return [min(math.dist(point, goal) for goal in scaled[1]) for point in scaled[0]]


def nsd(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    if not predicted.any() or not truth.any():
        return float(predicted.any() == truth.any())
    both = distances(predicted, truth, spacing) + distances(truth, predicted, spacing)
    return sum(distance <= tolerance + 1e-9 for distance in both) / len(both)


def percentile(values: list[float], share: float) -> float:
    """Between the ranks, linear."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def hd95(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float:
    if not predicted.any() or not truth.any():
        return 0.0 if predicted.any() == truth.any() else math.hypot(*np.multiply(predicted.shape, spacing))
    pairs = ((predicted, truth), (truth, predicted))
    return max(percentile(distances(one, other, spacing), 0.95) for one, other in pairs)


def band(mask: np.ndarray, distance: int) -> set[tuple[int, ...]]:
    """Pixels at most ``distance`` rows and columns from one that is not in the mask."""
    inside, reach = pixels(mask), range(-distance, distance + 1)
    return {(y, x) for y, x in inside if any((y + down, x + right) not in inside for down in reach for right in reach)}


def boundary_iou(predicted: np.ndarray, truth: np.ndarray, ratio: float) -> float:
    distance = max(round(ratio * math.hypot(*predicted.shape)), 1)
    bands = band(predicted, distance), band(truth, distance)
    union = bands[0] | bands[1]
    return len(bands[0] & bands[1]) / len(union) if union else 1.0
