"""Objects made of several different pieces, as most named things are: a car, a beetle, a lamp, a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sam_train.data.world import outlines
from sam_train.data.world.canvas import Canvas, Coverage
from sam_train.data.world.draws import between, chance, count, pick
from sam_train.data.world.materials import Material
from sam_train.data.world.objects import XY, Pose, cast_shadow

_BODIES = (*outlines.ROUND, *outlines.ANGULAR)
_PIECES = (*_BODIES, outlines.tube, outlines.leaf, outlines.ring)


@dataclass(frozen=True)
class Compound:
    """A fixed arrangement of pieces in a frame of radius about 1, back to front.

    Attributes:
        pieces: Their outlines and poses.
        materials: Their surfaces.
        variation: How much individuals differ in brightness.
        upright: Whether all stand the same way.
        shadow: x, y offset in pixels of a 256 px image; None for none.
    """

    pieces: tuple[Pose, ...]
    materials: tuple[Material, ...]
    variation: float = 0.03
    upright: bool = True
    shadow: XY | None = None

    @classmethod
    def design(cls, rng: np.random.Generator, material: Callable[[np.random.Generator], Material]) -> Compound:
        """A new thing: pieces joined to a body, half of the time in mirror symmetry."""
        pieces = [Pose(pick(rng, _BODIES)(rng), radius=between(rng, 0.4, 0.6), angle=_right_angle(rng))]
        materials = [material(rng)]
        symmetric = chance(rng, 0.5)
        for _ in range(count(rng, 1, 4)):
            parent = pick(rng, pieces)
            angle, radius = rng.random() * 2 * np.pi, between(rng, 0.15, 0.45)
            reach = parent.radius * between(rng, 0.3, 1.0)
            center = parent.center[0] + reach * np.cos(angle), parent.center[1] + reach * np.sin(angle)
            piece = Pose(pick(rng, _PIECES)(rng), center, radius, _right_angle(rng))
            at = pick(rng, (0, len(pieces)))  # behind all or in front of all
            twins = [piece, _mirrored(piece)] if symmetric and abs(center[0]) > 0.1 else [piece]
            surface = pick(rng, materials) if chance(rng, 0.4) else material(rng)
            pieces[at:at], materials[at:at] = twins, [surface] * len(twins)
        return cls(tuple(pieces), tuple(materials), upright=chance(rng, 0.5))

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """The union of the pieces becomes an object, and so does each piece; returns the last piece's pixels."""
        turn = 0.1 * rng.standard_normal() if self.upright else rng.random() * 2 * np.pi
        frame = Pose(self.pieces[0].outline, center, radius, turn)
        poses = [_moved(piece, frame) for piece in self.pieces]
        covers = [pose.cover(canvas) for pose in poses]
        if self.shadow is not None:
            for covered in covers:
                if covered is not None:
                    cast_shadow(canvas, covered, self.shadow, 0.35)
        whole, last = canvas.new_object(), None
        for covered, material in zip(covers, self.materials, strict=True):
            if covered is not None:
                material.varied(rng, self.variation).paint(canvas, covered, rng)
                canvas.label(covered, whole, canvas.new_object(1))
                last = covered
        return last


def _right_angle(rng: np.random.Generator) -> float:
    return pick(rng, (0.0, np.pi / 2, np.pi, -np.pi / 2)) + (0.3 * rng.standard_normal() if chance(rng, 0.5) else 0.0)


def _mirrored(pose: Pose) -> Pose:
    return replace(
        pose,
        outline=pose.outline.stretched(1.0, -1.0),
        center=(-pose.center[0], pose.center[1]),
        angle=np.pi - pose.angle,
    )


def _moved(piece: Pose, frame: Pose) -> Pose:
    return Pose(piece.outline, frame.at(*piece.center), piece.radius * frame.radius, piece.angle + frame.angle)
