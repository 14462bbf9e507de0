"""What microscopes show: the domains ``cells`` and ``tissue``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from sam_train.data.world import optics, outlines
from sam_train.data.world.canvas import Canvas, Coverage
from sam_train.data.world.draws import between, chance, count, log_between, log_count, pick, pick_weighted
from sam_train.data.world.layout import Placement, scatter, sprinkle
from sam_train.data.world.materials import Color, Material, Texture, hsv
from sam_train.data.world.objects import XY, Kind, Pose
from sam_train.data.world.tiles import cut


def cells(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Fluorescent cells on a dark ground: uneven brightness, light that bleeds around them, photon noise."""
    dye = pick_weighted(rng, {(1, 1, 1): 4, (0.15, 1, 0.3): 3, (0.25, 0.4, 1): 2, (1, 0.25, 0.2): 1})
    light = np.array(dye, np.float32) * log_between(rng, 0.3, 1.0)
    brightness = float(light.mean())
    canvas.image += light[:, None, None] * between(rng, 0.03, 0.12)
    body = Material(
        light,
        tint=light * between(rng, 0.08, 0.3),
        texture=Texture(pick(rng, ("grain5", "grain9", "bubbles9"))),
        bulge=between(rng, 0.0, 0.45),
        rim=brightness * between(rng, -0.3, 0.5),
        rim_width=log_between(rng, 1.0, 3.0),
        softness=between(rng, 0.5, 1.5),
    )
    plain = Kind(pick(rng, (outlines.ellipse, outlines.ellipse, outlines.blob)), body, variation=0.22 * brightness)
    nucleated = replace(plain, parts="core", part_material=replace(body, color=light * 1.5))
    main = Glowing(nucleated if chance(rng, 0.25) else plain)
    hollow = Glowing(replace(plain, family=outlines.loop))
    placement: Placement = pick_weighted(rng, {"touching": 3, "apart": 1, "clustered": 1})
    scatter(canvas, [*[main] * 6, hollow], log_count(rng, 6, 60), between(rng, 0.08, 0.4), placement, rng)
    sprinkle(canvas, [main], rng)
    optics.uneven_light(canvas.image, rng, between(rng, 0.1, 0.6))
    optics.shot_noise(canvas.image, rng, log_between(rng, 0.02, 0.1))
    pixels = optics.to_bytes(canvas.image)
    return np.repeat(pixels[:1], 3, axis=0) if dye == (1, 1, 1) else pixels


class Glowing:
    """A kind of object whose light reaches beyond its edge."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """As the kind does, after the glow."""
        halo = canvas.cover(outlines.CIRCLE, center, 1.1 * radius, softness=radius * canvas.size * 0.45)
        if halo is not None:
            rows, columns = halo.window
            canvas.image[:, rows, columns] += np.multiply.outer(0.22 * self.kind.material.color, halo.alpha)
        return self.kind.draw(canvas, center, radius, rng)


def tissue(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Stained tissue: fibrous pink ground, pale gaps, purple nuclei, hollow glands lined with nuclei."""
    tone, stain = between(rng, -0.03, 0.03), between(rng, 0.7, 1.2)
    pink, purple = hsv(0.92 + tone, 0.33 * stain, 0.88), hsv(0.76 + tone, 0.55 * stain, between(rng, 0.4, 0.6))
    gap = Material(hsv(0.9 + tone, 0.06, 0.93), tint=0.01, texture=Texture("grain9"))
    _stroma(canvas, pink, gap, rng)
    nucleus = Material(
        purple,
        tint=between(rng, 0.03, 0.08),
        texture=Texture(pick(rng, ("grain3", "grain5"))),
        rim=-between(rng, 0.05, 0.15),
        rim_width=1.0,
        softness=between(rng, 0.3, 0.8),
    )
    size, number = log_between(rng, 0.045, 0.1), log_count(rng, 6, 24)
    oval = Kind(outlines.ellipse, nucleus, variation=0.06)
    wall = Material(0.55 * pink + 0.45 * purple, tint=0.03, texture=Texture("grain9"))
    scatter(canvas, [Gland(wall, gap, oval, size)], count(rng, 0, 3), between(rng, 0.1, 0.35), "apart", rng)
    spindle = replace(oval, family=outlines.leaf, angle=rng.random() * np.pi)
    placement: Placement = pick(rng, ("touching", "touching", "apart"))
    scatter(canvas, [oval, oval, spindle], number, number * np.pi * size**2 * 1.3, placement, rng)
    dark = Kind(outlines.disc, replace(nucleus, color=purple * 0.6), variation=0.04)
    sprinkle(canvas, [dark], rng)
    optics.shot_noise(canvas.image, rng, between(rng, 0.005, 0.02), colored=True)
    pixels = optics.blurred(optics.to_bytes(canvas.image), between(rng, 0.2, 0.7) * canvas.scale)
    return optics.compressed(pixels, count(rng, 60, 92))


def _stroma(canvas: Canvas, pink: Color, gap: Material, rng: np.random.Generator) -> None:
    """Wavy fibres of uneven density with pale gaps in them."""
    canvas.image[:] = pink[:, None, None]
    window = canvas.size, canvas.size
    for name, strength in (
        (f"fibre{36 * count(rng, 0, 4)}", 0.02),
        ("creases30", 0.02),
        ("rough", 0.03),
        ("cloud", 0.03),
    ):
        less_green = np.array([0.5, 1.3, 0.7], np.float32) * (strength * between(rng, 0.3, 1.3))
        canvas.image -= np.multiply.outer(less_green, cut(name, canvas.size, window, rng, turn=False))
    for _ in range(count(rng, 0, 4)):
        region = Pose(outlines.blob(rng), (rng.random(), rng.random()), between(rng, 0.03, 0.2)).cover(canvas, 1.5)
        if region is not None:
            gap.paint(canvas, region, rng)


class Gland:
    """A wall of tissue around an empty middle; nuclei stand in the wall as parts of it."""

    def __init__(self, wall: Material, gap: Material, nucleus: Kind, size: float) -> None:
        self.wall, self.gap, self.nucleus, self.size = wall, gap, nucleus, size

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """The wall without its hole becomes an object, as do its nuclei."""
        outline, hole = outlines.blob(rng), between(rng, 0.4, 0.65)
        middle = Pose(outline, center, radius * hole).cover(canvas, 1.0)
        covered = Pose(outline.with_hole(hole), center, radius).cover(canvas, 0.7)
        if middle is not None:
            self.gap.paint(canvas, middle, rng)
        if covered is None:
            return None
        self.wall.varied(rng, 0.03).paint(canvas, covered, rng)
        number = canvas.new_object()
        canvas.label(covered, number)
        around = int(2 * np.pi * radius / (2.2 * self.size))
        for corner in outline.points[:: max(len(outline.points) // max(around, 1), 1)]:
            place = Pose(outline, center, radius).at(*(corner * between(rng, 0.5 * (1 + hole), 0.95)))
            angle = float(np.arctan2(corner[1], corner[0]))
            nucleus = Pose(outlines.ellipse(rng), place, self.size * between(rng, 0.7, 1.1), angle)
            part = nucleus.cover(canvas, inside=covered)
            if part is not None:
                self.nucleus.material.varied(rng, 0.06).paint(canvas, part, rng)
                canvas.label(part, number, canvas.new_object(1))
        return covered
