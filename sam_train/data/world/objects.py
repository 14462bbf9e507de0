"""Objects: an outline and a material put on the canvas, with shadows and with parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sam_train.data.world.canvas import Canvas, Coverage
from sam_train.data.world.draws import between, chance, count, pick
from sam_train.data.world.materials import Material
from sam_train.data.world.outlines import Family, Outline, disc, rectangle

XY = tuple[float, float]

PARTS = ("core", "wall", "spots", "band", "half", "panels")
"""What can be drawn on an object: a smaller copy of it, the same with the rest as an object too, a few spots, a stripe,
one half, or rows of rectangles."""


class Drawable(Protocol):
    """A kind of object of which any number can be drawn."""

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """Put one individual in front of everything so far; None if it lies outside the image."""
        ...


@dataclass(frozen=True)
class Pose:
    """An outline where it is on the canvas."""

    outline: Outline
    center: XY = (0.0, 0.0)
    radius: float = 1.0
    angle: float = 0.0

    def at(self, x: float, y: float) -> XY:
        """A point of the outline's own frame on the canvas."""
        cos, sin = math.cos(self.angle) * self.radius, math.sin(self.angle) * self.radius
        return self.center[0] + x * cos - y * sin, self.center[1] + x * sin + y * cos

    def cover(self, canvas: Canvas, softness: float = 0.0, inside: Coverage | None = None) -> Coverage | None:
        """The pixels it covers."""
        return canvas.cover(self.outline, self.center, self.radius, self.angle, softness=softness, inside=inside)


@dataclass(frozen=True)
class Kind:
    """What the individuals of one kind in a scene have in common.

    Attributes:
        family: Draws their outlines.
        material: How they look on average.
        prototype: If given, all have this outline, a little stretched, instead of a new one each.
        variation: How much their brightness differs, on the scale 0..1.
        angle: The direction all have, in radians; None for any.
        shadow: x, y offset of the shadow in pixels of a 256 px image; None for no shadow.
        parts: What is drawn on each: any of :data:`PARTS`, or None.
        part_material: How parts look.
        subparts: Whether parts have parts.
    """

    family: Family
    material: Material
    prototype: Outline | None = None
    variation: float = 0.04
    angle: float | None = None
    shadow: XY | None = None
    parts: str | None = None
    part_material: Material | None = None
    subparts: bool = False

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """Its visible pixels become an object, and so do those of its parts."""
        angle = rng.random() * 2 * np.pi if self.angle is None else self.angle + 0.06 * rng.standard_normal()
        return self.draw_at(canvas, Pose(self._outline(rng), center, radius, angle), rng)

    def draw_at(self, canvas: Canvas, pose: Pose, rng: np.random.Generator) -> Coverage | None:
        """As :meth:`draw`, with a given outline and pose."""
        covered = pose.cover(canvas, self.material.softness * canvas.scale)
        if covered is None:
            return None
        if self.shadow is not None:
            cast_shadow(canvas, covered, self.shadow)
        self.material.varied(rng, self.variation).paint(canvas, covered, rng)
        number = canvas.new_object()
        canvas.label(covered, number)
        if self.parts is not None:
            self._draw_parts(canvas, self.parts, covered, pose, (number,), rng)
        return covered

    def _outline(self, rng: np.random.Generator) -> Outline:
        if self.prototype is None:
            return self.family(rng)
        return self.prototype.stretched(between(rng, 0.9, 1.1), between(rng, 0.85, 1.1), between(rng, -0.1, 0.1))

    def _draw_parts(
        self,
        canvas: Canvas,
        name: str,
        whole: Coverage,
        pose: Pose,
        numbers: tuple[int, ...],
        rng: np.random.Generator,
    ) -> None:
        material = (self.part_material or self.material).varied(rng, 0.3 * self.variation)
        for part in _part_poses(name, pose, rng):
            covered = part.cover(canvas, inside=whole)
            if covered is None:
                continue
            material.paint(canvas, covered, rng)
            if name == "wall":
                canvas.label(whole.without(covered), *numbers, canvas.new_object(len(numbers)))
            inner = (*numbers, canvas.new_object(len(numbers)))
            canvas.label(covered, *inner)
            if self.subparts and len(numbers) == 1 and name != "band":
                deeper = self.material if chance(rng, 0.5) else material.varied(rng, 0.2)
                kind = replace(self, part_material=deeper)
                kind._draw_parts(canvas, pick(rng, ("core", "spots", "band")), covered, part, inner, rng)


def cast_shadow(canvas: Canvas, covered: Coverage, offset: XY, darkness: float = 0.5) -> None:
    """Darken what lies beside an object that is about to be painted."""
    y, x = covered.y + round(offset[1] * canvas.scale), covered.x + round(offset[0] * canvas.scale)
    top, left = max(-y, 0), max(-x, 0)
    alpha = covered.alpha[top : max(canvas.size - y, 0), left : max(canvas.size - x, 0)]
    rows, columns = slice(y + top, y + top + alpha.shape[0]), slice(x + left, x + left + alpha.shape[1])
    canvas.image[:, rows, columns] *= 1 - darkness * alpha


def _box(x0: float, y0: float, x1: float, y1: float) -> Outline:
    return Outline.join([np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])])


def _part_poses(name: str, whole: Pose, rng: np.random.Generator) -> list[Pose]:
    """Where the parts of this name are on a whole; what sticks out of it is cut off later."""
    x, y = np.abs(whole.outline.points).max(0)
    if name in ("core", "wall"):
        shift = 0.06 * rng.standard_normal(2) * (x, y)
        return [replace(whole, radius=whole.radius * between(rng, 0.35, 0.85), center=whole.at(*shift))]
    if name == "spots":
        outline, size = pick(rng, (disc, rectangle))(rng), whole.radius * between(rng, 0.08, 0.24)
        spots = rng.uniform(-0.6, 0.6, (count(rng, 1, 5), 2)) * (x, y)
        return [Pose(outline, whole.at(*spot), size, whole.angle) for spot in spots]
    if name == "panels":
        columns, rows = count(rng, 1, 3), count(rng, 1, 3)
        panel = _box(-0.6 * x / columns, -0.6 * y / rows, 0.6 * x / columns, 0.6 * y / rows)
        across = (np.arange(columns) - (columns - 1) / 2) * 1.6 * x / columns
        down = (np.arange(rows) - (rows - 1) / 2) * 1.6 * y / rows
        return [replace(whole, outline=panel, center=whole.at(u, v)) for u in across for v in down]
    low = between(rng, -0.6, 0.3)
    high = 2.0 if name == "half" else low + between(rng, 0.15, 0.5)
    turn = np.pi / 2 if chance(rng, 0.3) else 0.0
    return [replace(whole, outline=_box(low * x, -2, high * x, 2), angle=whole.angle + turn)]
