"""Things on a ground, told apart by texture alone or by color alone: the domains ``texture`` and ``shapes``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from sam_train.data.world import optics, outlines
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.draws import between, chance, count, log_count, pick
from sam_train.data.world.layout import Placement, scatter, sprinkle
from sam_train.data.world.materials import Color, Material, Palette, Texture, texture_pair
from sam_train.data.world.objects import Kind


def texture(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Camouflage: objects and ground have one color and differ in their texture, or only by the objects' edge."""
    palette = Palette("natural", (between(rng, 0.02, 0.4), between(rng, 0.02, 0.6)), between(rng, 0.1, 0.5))
    color = palette.color(rng, between(rng, 0.35, 0.7))
    tint = (between(rng, 0.1, 0.24) * (0.3 + color)).astype(np.float32)
    pattern, other = texture_pair(rng)
    ground = Material(color, tint, pattern)
    ground.fill(canvas, rng)
    outlined = other == pattern or chance(rng, 0.25)
    thing = replace(ground, texture=other, rim=-0.22 if outlined else 0.0, rim_width=1.0)
    families = (*outlines.ROUND, *outlines.ANGULAR, outlines.flower, outlines.leaf)
    kinds = [Kind(pick(rng, families), thing, variation=0.02) for _ in range(count(rng, 1, 3))]
    kinds.append(Kind(outlines.ring, thing, variation=0.02))
    placement: Placement = pick(rng, ("touching", "free", "apart"))
    scatter(canvas, kinds, log_count(rng, 3, 24), between(rng, 0.2, 0.5), placement, rng)
    sprinkle(canvas, kinds, rng)
    optics.uneven_light(canvas.image, rng, between(rng, 0.0, 0.4))
    optics.shot_noise(canvas.image, rng, between(rng, 0.005, 0.03), colored=True)
    return optics.to_bytes(canvas.image)


def shapes(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Plain, evenly colored things of all outlines on a plain ground, sharp and well lit."""
    palette = Palette("natural", (between(rng, 0.0, 0.4), rng.random()), between(rng, 0.4, 0.9))
    color = palette.color(rng, between(rng, 0.6, 0.95))
    ground = Material(color, 0.012, Texture("rough"))
    ground.fill(canvas, rng)
    kinds = [_plain(palette, color, family, rng) for family in (pick(rng, outlines.ALL), pick(rng, outlines.ALL))]
    kinds += [_plain(palette, color, family, rng) for family in (outlines.polygon, outlines.ring, outlines.branch)]
    placement: Placement = pick(rng, ("touching", "free", "apart"))
    scatter(canvas, kinds, log_count(rng, 3, 30), between(rng, 0.2, 0.6), placement, rng)
    sprinkle(canvas, kinds, rng)
    optics.shot_noise(canvas.image, rng, 0.01)
    return optics.to_bytes(canvas.image)


def _plain(palette: Palette, ground: Color, family: outlines.Family, rng: np.random.Generator) -> Kind:
    return Kind(
        family, Material(palette.against(rng, ground, 0.2), light=(0.08, 0.08)), variation=0.05, shadow=(1.5, 2.0)
    )
