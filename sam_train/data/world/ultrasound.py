"""What ultrasound shows: the domain ``ultrasound``."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from sam_train.data.world import optics, outlines
from sam_train.data.world.canvas import Canvas, Coverage
from sam_train.data.world.draws import between, chance, count, log_between, log_count, pick
from sam_train.data.world.layout import scatter, sprinkle
from sam_train.data.world.materials import Material, Texture, gray
from sam_train.data.world.objects import XY, Kind
from sam_train.data.world.tiles import cut


def ultrasound(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Speckled echoes: dark lesions with soft borders, bright spots that cast shadows, vessels, sometimes a fan."""
    side = canvas.size
    depth = np.linspace(0, 1, side, dtype=np.float32)
    layers = cut("fibre0", side, (side, side), rng, turn=False) + cut("cloud", side, (side, side), rng)
    canvas.image[:] = between(rng, 0.2, 0.4) * np.exp(between(rng, 0.1, 0.22) * layers)
    for _ in range(log_count(rng, 1, 8)):
        _lesion(canvas, rng)
    wall = Material(gray(between(rng, 0.75, 1.0)), softness=1.0 * canvas.scale)
    vessel = Kind(outlines.loop, wall)
    scatter(canvas, [vessel], count(rng, 0, 3), between(rng, 0.01, 0.05), "apart", rng)
    sprinkle(canvas, [Shadowing(Kind(outlines.blob, wall))], rng, most=4)
    speckle = np.hypot(_wide_grain(side, rng), _wide_grain(side, rng))
    echo = canvas.image[0] * (0.25 + 0.6 * speckle) * (1 - between(rng, 0.0, 0.5) * depth[:, None])
    picture = np.log1p(12 * np.maximum(echo, 0)) / np.log(13)
    if chance(rng, 0.5):
        fan = _fan(side, rng)
        picture *= fan
        canvas.labels *= fan >= 0.5
    return optics.to_bytes(np.repeat(picture[None], 3, axis=0))


def _lesion(canvas: Canvas, rng: np.random.Generator) -> None:
    dark = Material(
        gray(log_between(rng, 0.03, 0.2)), tint=0.03, texture=Texture("cloud"), softness=between(rng, 1, 3.5)
    )
    kind = Kind(pick(rng, (outlines.ellipse, outlines.blob, outlines.ragged)), dark, variation=0.02)
    center, radius = (between(rng, 0.1, 0.9), between(rng, 0.15, 0.85)), log_between(rng, 0.03, 0.22)
    if chance(rng, 0.5):
        _beam(canvas, center, 0.7 * radius, between(rng, 1.2, 1.7))  # fluid lets more sound through
    kind.draw(canvas, center, radius, rng)


def _beam(canvas: Canvas, top: XY, half_width: float, gain: float) -> None:
    """Change the brightness of all that lies deeper than this."""
    box = np.array([[-half_width, 0], [half_width, 0], [half_width * 2, 1.5], [-half_width * 2, 1.5]])
    below = canvas.cover(outlines.Outline.join([box]), top, softness=2 * canvas.scale)
    if below is not None:
        rows, columns = below.window
        canvas.image[:, rows, columns] *= 1 + (gain - 1) * below.alpha


class Shadowing:
    """A kind of object that lets no sound through."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def draw(self, canvas: Canvas, center: XY, radius: float, rng: np.random.Generator) -> Coverage | None:
        """As the kind does, after its shadow."""
        _beam(canvas, center, radius, 0.35)
        return self.kind.draw(canvas, center, radius, rng)


def _wide_grain(side: int, rng: np.random.Generator) -> Float[np.ndarray, "side side"]:
    """Noise with grains twice as wide as high, as the beam's profile makes them."""
    grain = np.repeat(cut("grain5", side, (side, -(-side // 2)), rng, turn=False), 2, axis=1)[:, :side]
    return 0.5 * (grain + np.roll(grain, 1, axis=1))


def _fan(side: int, rng: np.random.Generator) -> Float[np.ndarray, "side side"]:
    half, radius = between(rng, 0.5, 0.8), between(rng, 1.0, 1.2)
    angle = np.linspace(-half, half, 40) + np.pi / 2
    arc = np.stack([np.cos(angle), np.sin(angle)], 1)
    sector = outlines.Outline.join([np.concatenate([arc * radius, arc[::-1] * between(rng, 0.1, 0.3)])])
    covered = Canvas(side).cover(sector, (0.5, between(rng, -0.15, -0.05)))
    assert covered is not None
    fan = np.zeros((side, side), np.float32)
    fan[covered.window] = covered.alpha
    return fan
