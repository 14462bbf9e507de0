"""What the objects of one scene share: colors, ground, light."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sam_train.data.world import outlines
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.draws import between, chance, count, log_between, pick, pick_weighted
from sam_train.data.world.materials import Color, Material, Palette, Texture
from sam_train.data.world.objects import PARTS, XY, Kind


@dataclass(frozen=True)
class Look:
    """What all objects of a scene share.

    Attributes:
        palette: Where colors come from.
        ground: What the objects lie on.
        contrast: Least mean difference of an object's color from the ground's, on the scale 0..1.
        direction: Where light comes from, a unit vector x, y.
        slope: How much brighter objects are on that side.
        shadow: Offset of shadows in pixels of a 256 px image; None for none.
        softness: Blur of all edges, in pixels of a 256 px image.
    """

    palette: Palette
    ground: Material
    contrast: float
    direction: XY
    slope: float
    shadow: XY | None
    softness: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """Any look."""
        palette = Palette.draw(rng)
        angle, reach = rng.random() * 2 * np.pi, log_between(rng, 1.5, 9.0)
        direction = float(np.cos(angle)), float(np.sin(angle))
        return cls(
            palette,
            _ground(palette, rng),
            contrast=log_between(rng, 0.04, 0.5),
            direction=direction,
            slope=between(rng, 0.05, 0.35) if chance(rng, 0.5) else 0.0,
            shadow=(-direction[0] * reach, -direction[1] * reach) if chance(rng, 0.25) else None,
            softness=log_between(rng, 0.5, 2.5) if chance(rng, 0.2) else 0.0,
        )

    def material(self, rng: np.random.Generator) -> Material:
        """A surface that stands out from the ground as the scene's contrast says."""
        color = self.palette.against(rng, self.ground.color, self.contrast)
        textured = chance(rng, 0.6)
        return Material(
            color,
            tint=_tint(self.palette, color, rng) if textured else 0.0,
            texture=Texture.draw(rng) if textured else None,
            light=self.light(self.slope),
            bulge=between(rng, 0.05, 0.4) if chance(rng, 0.35) else 0.0,
            gloss=between(rng, 0.1, 0.6) if chance(rng, 0.15) else 0.0,
            rim=between(rng, 0.05, 0.35) * pick(rng, (-1, -1, 1)) if chance(rng, 0.35) else 0.0,
            rim_width=log_between(rng, 0.8, 4.0),
            opacity=between(rng, 0.6, 0.95) if chance(rng, 0.15) else 1.0,
            softness=self.softness,
        )

    def light(self, slope: float) -> XY:
        """The slope of brightness in x and y."""
        return slope * self.direction[0], slope * self.direction[1]

    def kind(self, rng: np.random.Generator, families: tuple[outlines.Family, ...] = outlines.ALL) -> Kind:
        """A kind of object of one of these families, a quarter of them with parts."""
        family = pick(rng, families)
        has_parts = family not in outlines.THIN and chance(rng, 0.25)
        return Kind(
            family,
            self.material(rng),
            prototype=family(rng) if chance(rng, 0.35) else None,
            variation=log_between(rng, 0.01, 0.12),
            angle=rng.random() * 2 * np.pi if chance(rng, 0.3) else None,
            shadow=self.shadow,
            parts=pick(rng, PARTS) if has_parts else None,
            part_material=self.material(rng) if has_parts else None,
            subparts=chance(rng, 0.35),
        )

    def kinds(self, rng: np.random.Generator, number: int, overlapping: bool) -> list[Kind]:
        """That many kinds. If they overlap, most have a rim, or nothing would show where one ends."""
        kinds = [self.kind(rng) for _ in range(number)]
        if not overlapping or chance(rng, 0.2):
            return kinds
        return [replace(kind, material=replace(kind.material, rim=kind.material.rim or -0.12)) for kind in kinds]

    def paint_ground(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """The ground, sometimes in two layers and with large regions on it that are no objects."""
        self.ground.fill(canvas, rng)
        if chance(rng, 0.3):
            layer = Texture.draw(rng).sample(canvas.size, (canvas.size, canvas.size), rng)
            canvas.image += layer * _tint(self.palette, self.ground.color, rng)[:, None, None]
        for _ in range(count(rng, 1, 3) if chance(rng, 0.3) else 0):
            outline = pick(rng, (outlines.blob, outlines.polygon, outlines.rectangle, outlines.tube))(rng)
            softness = canvas.scale * pick(rng, (0, 0, 3, 9))
            place = rng.random(), rng.random()
            region = canvas.cover(outline, place, between(rng, 0.3, 0.9), rng.random() * 6.28, softness=softness)
            if region is not None:
                surface = replace(self.material(rng), gloss=0.0, bulge=0.0, rim=0.0, opacity=between(rng, 0.2, 0.8))
                surface.paint(canvas, region, rng)


def _tint(palette: Palette, color: Color, rng: np.random.Generator) -> Color:
    """The direction in which a texture changes a color: mostly its brightness."""
    strength = log_between(rng, 0.015, 0.2)
    if palette.kind != "gray" and chance(rng, 0.3):
        return (strength * rng.standard_normal(3)).astype(np.float32)
    return (strength * (0.5 + color)).astype(np.float32)


def _ground(palette: Palette, rng: np.random.Generator) -> Material:
    value = pick_weighted(rng, {0.06: 0.2, 0.3: 0.25, 0.55: 0.3, 0.85: 0.25}) + 0.06 * rng.standard_normal()
    color = palette.color(rng, value)
    texture = Texture.draw(rng) if chance(rng, 0.8) else None
    return Material(color, _tint(palette, color, rng) if texture else 0.0, texture)
