"""The shapes of objects: polygons about the origin with a radius of about 1.

Every family is a function of the random generator alone. What looks smooth is a polygon fine enough to look smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from sam_train.data.world.draws import between, chance, count, log_between, pick

Points = Float[np.ndarray, "n 2"]
Family = Callable[[np.random.Generator], "Outline"]

_ANGLES = np.linspace(0, 2 * np.pi, 56, endpoint=False)
_UNIT = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


@dataclass(frozen=True)
class Outline:
    """Polygons drawn one after the other.

    Attributes:
        points: x, y of all corners.
        ends: Per polygon, where its corners end in ``points``.
        solid: Per polygon, whether it adds to the shape or cuts a hole.
    """

    points: Points
    ends: tuple[int, ...]
    solid: tuple[bool, ...]

    @classmethod
    def join(cls, polygons: Sequence[Points], solid: Sequence[bool] | None = None) -> Outline:
        """These polygons, by default all solid."""
        ends = tuple(int(end) for end in np.cumsum([len(polygon) for polygon in polygons]))
        return cls(np.concatenate(polygons), ends, tuple(solid or [True] * len(polygons)))

    def normalized(self) -> Outline:
        """Centerd on its bounding box, the farthest corner at distance 1."""
        points = self.points - (self.points.min(0) + self.points.max(0)) / 2
        return Outline(points / np.hypot(points[:, 0], points[:, 1]).max(), self.ends, self.solid)

    def stretched(self, x: float, y: float, shear: float = 0.0) -> Outline:
        """Scaled by x and y, and slanted."""
        return Outline(self.points @ np.array([[x, 0.0], [shear, y]]), self.ends, self.solid)

    def with_hole(self, ratio: float) -> Outline:
        """The same with a smaller copy of its first polygon cut out."""
        hole = self.points[: self.ends[0]] * ratio
        ends = (*self.ends, self.ends[-1] + len(hole))
        return Outline(np.concatenate([self.points, hole]), ends, (*self.solid, False))


def _polar(radius: Float[np.ndarray, "n"], x: float = 1.0, y: float = 1.0) -> Outline:
    return Outline.join([_UNIT * radius[:, None] * (x, y)])


def _strip(path: Points, width: Float[np.ndarray, "n"]) -> Points:
    """A ribbon of this half-width along a path."""
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    side = normal * width[:, None]
    return np.concatenate([path + side, (path - side)[::-1]])


def _path(rng: np.random.Generator, start: Points, angle: float, length: float, bend: float, steps: int) -> Points:
    """A smooth walk whose direction turns by about ``bend`` radians."""
    t = np.linspace(0, 1, steps)
    turn = angle + bend * (t - 0.5) * rng.standard_normal() + 0.5 * bend * np.sin(2 * np.pi * (t + rng.random()))
    moves = np.stack([np.cos(turn), np.sin(turn)], 1) * (length / steps)
    return start + np.cumsum(moves, axis=0)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


CIRCLE = Outline.join([_UNIT])


def disc(rng: np.random.Generator) -> Outline:
    """Round or nearly so."""
    return _polar(np.ones(len(_UNIT)), 1.0, between(rng, 0.85, 1.0))


def ellipse(rng: np.random.Generator) -> Outline:
    """From round to a third as wide as long."""
    return _polar(np.ones(len(_UNIT)), 1.0, log_between(rng, 0.33, 1.0))


def blob(rng: np.random.Generator) -> Outline:
    """A smooth closed curve of a few random harmonics (Fourier contour)."""
    order = np.arange(2, 7)
    gain = between(rng, 0.08, 0.5) * rng.standard_normal(5) / order**1.2
    waves = np.cos(_ANGLES[:, None] * order + rng.random(5) * 2 * np.pi)
    return _polar(np.maximum(1 + waves @ gain, 0.25), 1.0, log_between(rng, 0.5, 1.0)).normalized()


def ragged(rng: np.random.Generator) -> Outline:
    """A blob with a rough border."""
    order = np.arange(2, 20)
    gain = between(rng, 0.1, 0.35) * rng.standard_normal(18) / order**0.7
    waves = np.cos(_ANGLES[:, None] * order + rng.random(18) * 2 * np.pi)
    return _polar(np.maximum(1 + waves @ gain, 0.25)).normalized()


def rounded(rng: np.random.Generator) -> Outline:
    """A superellipse: between ellipse and rectangle."""
    power = 2 / between(rng, 2.5, 7.0)
    return Outline.join([np.sign(_UNIT) * np.abs(_UNIT) ** power * (0.85, 0.85 * log_between(rng, 0.3, 1.0))])


def rectangle(rng: np.random.Generator) -> Outline:
    """Right angles, up to one to four."""
    height = log_between(rng, 0.25, 1.0)
    return Outline.join([_rectangle(-1, -height, 1, height)]).normalized()


def polygon(rng: np.random.Generator) -> Outline:
    """Three to eight corners, regular or not."""
    corners = count(rng, 3, 8)
    angle = (np.arange(corners) + rng.random(corners) * pick(rng, (0.0, 0.7))) * 2 * np.pi / corners
    radius = 1 - rng.random(corners) * pick(rng, (0.0, 0.4))
    return Outline.join([np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1)])


def star(rng: np.random.Generator) -> Outline:
    """Four to nine points."""
    spikes = count(rng, 4, 9)
    angle = np.arange(2 * spikes) * np.pi / spikes
    radius = np.where(np.arange(2 * spikes) % 2, between(rng, 0.35, 0.75), 1.0)
    return Outline.join([np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1)])


def flower(rng: np.random.Generator) -> Outline:
    """Lobes around a middle; sharp-edged ones look like gears."""
    wave = np.cos(_ANGLES * count(rng, 3, 8))
    return _polar(1 + between(rng, 0.12, 0.4) * (wave if chance(rng, 0.7) else np.sign(wave))).normalized()


def rectilinear(rng: np.random.Generator) -> Outline:
    """A few overlapping rectangles: the plans of L-, T-, U- and Z-shaped buildings."""
    x, y = between(rng, 0.4, 1.0), between(rng, 0.4, 1.0)
    parts = [_rectangle(-x, -y, x, y)]
    for _ in range(count(rng, 1, 3)):
        across = chance(rng, 0.5)
        width, length = between(rng, 0.2, 0.45), between(rng, 0.6, 1.4)
        offset = between(rng, -1, 1) * ((x if across else y) - width)
        wing = _rectangle(offset - width, 0, offset + width, y + length) * (1, pick(rng, (-1, 1)))
        parts.append(wing if across else wing[:, ::-1])
    return Outline.join(parts).normalized()


def leaf(rng: np.random.Generator) -> Outline:
    """Two arcs that meet in points, sometimes bent."""
    t = np.linspace(-1, 1, 24)
    arc = (1 - np.abs(t) ** between(rng, 1.3, 2.5)) * between(rng, 0.2, 0.5)
    points = np.concatenate([np.stack([t, arc], 1), np.stack([t, -arc], 1)[::-1]])
    points[:, 1] += between(rng, -0.35, 0.35) * points[:, 0] ** 2
    return Outline.join([points]).normalized()


def drop(rng: np.random.Generator) -> Outline:
    """A drop, pear or balloon, some with a small knot at the thin end."""
    y = _UNIT[:, 1]
    points = np.stack([_UNIT[:, 0] * (1 - between(rng, 0.1, 0.55) * (y + 1) / 2) * between(rng, 0.7, 0.95), y], 1)
    knot = np.array([[0.0, 0.95], [0.11, 1.13], [-0.11, 1.13]])
    return Outline.join([points, knot] if chance(rng, 0.4) else [points]).normalized()


def bean(rng: np.random.Generator) -> Outline:
    """A bent ellipse."""
    points = _UNIT * (1.0, log_between(rng, 0.2, 0.55))
    return Outline.join([points + np.stack([0 * _ANGLES, between(rng, 0.2, 0.7) * points[:, 0] ** 2], 1)]).normalized()


def crescent(rng: np.random.Generator) -> Outline:
    """A moon or a slice of a disc."""
    half = between(rng, 0.6, 2.7)
    angle = np.linspace(-half, half, 32)
    arc = np.stack([np.cos(angle), np.sin(angle)], 1)
    inner = arc[::-1] * (between(rng, 0.5, 0.95), 1) - (between(rng, 0.1, 0.4), 0) if chance(rng, 0.6) else [[0.0, 0.0]]
    return Outline.join([np.concatenate([arc, inner])]).normalized()


def ring(rng: np.random.Generator) -> Outline:
    """A closed band around a hole through which the ground shows."""
    return pick(rng, (disc, ellipse, blob, rounded, rectangle))(rng).with_hole(between(rng, 0.35, 0.88))


def loop(rng: np.random.Generator) -> Outline:
    """A smooth ring: a vessel's wall, a membrane."""
    return pick(rng, (disc, ellipse, blob))(rng).with_hole(between(rng, 0.5, 0.85))


def lumps(rng: np.random.Generator) -> Outline:
    """A cluster of grown-together discs, as metaballs are."""
    center, parts = np.zeros(2), []
    for _ in range(count(rng, 2, 7)):
        radius = between(rng, 0.3, 0.7)
        parts.append(_UNIT[::2] * radius + center)
        angle = rng.random() * 2 * np.pi
        center = center + np.array([np.cos(angle), np.sin(angle)]) * radius * 1.1
    return Outline.join(parts).normalized()


def pieces(rng: np.random.Generator) -> Outline:
    """One object in several separate pieces."""
    x = np.cumsum([between(rng, 0.75, 1.3) for _ in range(count(rng, 2, 4))])
    base = pick(rng, (disc, rectangle, blob, leaf))(rng).points * 0.5
    return Outline.join([base @ _turn(rng.random() * 6.28) + (offset, 0.2 * rng.random()) for offset in x]).normalized()


def tube(rng: np.random.Generator) -> Outline:
    """A curved line of even or swelling thickness."""
    path = _path(rng, np.zeros((1, 2)), rng.random() * 6.28, 2.0, between(rng, 0.1, 2.4), 28)
    t = np.linspace(-1, 1, 28)
    width = log_between(rng, 0.03, 0.22) * (1 - t**8) ** 0.5
    if chance(rng, 0.4):
        width = width * (1 + between(rng, 0.1, 0.6) * np.sin(t * between(rng, 2, 16)))
    return Outline.join([_strip(path, width)]).normalized()


def branch(rng: np.random.Generator) -> Outline:
    """A tree of tapering tubes: vessels, roots, dendrites."""
    strips: list[Points] = []
    thick = log_between(rng, 0.03, 0.1)
    stack = [(np.zeros((1, 2)), 0.0, 1.0, thick, 0)]
    stack += [(np.zeros((1, 2)), 1.26 * (arm + 1), 1.0, thick, 0) for arm in range(4)] if chance(rng, 0.3) else []
    while stack and len(strips) < 18:
        start, angle, length, width, depth = stack.pop(0)
        path = _path(rng, start, angle, length, 0.7, 10)
        strips.append(_strip(path, width * np.linspace(1.0, 0.55, 10)))
        for side in (-1, 1):
            if depth < 4 and chance(rng, 0.85 - 0.12 * depth):
                at = count(rng, 5, 9)
                turn = angle + side * between(rng, 0.3, 0.9)
                stack.append((path[at : at + 1], turn, length * between(rng, 0.55, 0.85), width * 0.7, depth + 1))
    return Outline.join(strips).normalized()


def glyph(rng: np.random.Generator) -> Outline:
    """A few straight strokes of one thickness: tools, letters, frames, twigs."""
    width = np.full(2, between(rng, 0.05, 0.16))
    grid = (rng.random((count(rng, 2, 5) + 1, 2)) * 3).astype(int) - 1.0
    strokes = [np.stack([a, b + 1e-3]) for a, b in pairwise(grid)]
    caps = [_UNIT[::4] * width[0] + corner for corner in grid]
    return Outline.join([_strip(stroke, width) for stroke in strokes] + caps).normalized()


def _turn(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


ROUND: tuple[Family, ...] = (disc, ellipse, blob, drop, bean, rounded)
ANGULAR: tuple[Family, ...] = (rectangle, polygon, star, rectilinear)
THIN: tuple[Family, ...] = (tube, branch, glyph)
ALL: tuple[Family, ...] = (*ROUND, *ANGULAR, *THIN, ragged, flower, leaf, crescent, ring, loop, lumps, pieces)
