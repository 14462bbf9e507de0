"""What surfaces look like: colors, textures and the way light falls on them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from sam_train.data.world.canvas import Canvas, Coverage
from sam_train.data.world.draws import between, chance, log_between, pick, pick_weighted
from sam_train.data.world.tiles import TILES, cut

Color = Float[np.ndarray, "3"]

FIBRES = tuple(name for name in TILES if name.startswith("fibre"))


def gray(value: float) -> Color:
    """The same in all channels."""
    return np.full(3, value, np.float32)


def hsv(hue: float, saturation: float, value: float) -> Color:
    """All in 0..1; the hue wraps around."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1)), np.float32)


@dataclass(frozen=True)
class Palette:
    """Where the colors of one scene come from.

    Attributes:
        kind: ``gray``, ``tinted`` (one hue), ``natural`` (muted, around two hues) or ``vivid`` (any hue).
        hues: Two hues in 0..1.
        saturation: The most saturated a color gets.
    """

    kind: str
    hues: tuple[float, float]
    saturation: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Palette:
        """Any of them."""
        kind = pick_weighted(rng, {"gray": 0.34, "tinted": 0.1, "natural": 0.38, "vivid": 0.18})
        # Half of the natural hues are of earth, wood, skin and leaves.
        first = between(rng, 0.0, 0.33) if chance(rng, 0.5) else rng.random()
        return cls(kind, (first, rng.random()), between(rng, 0.15, 0.95))

    def color(self, rng: np.random.Generator, value: float) -> Color:
        """A color of about this brightness."""
        if self.kind == "gray":
            return gray(value)
        hue = {"tinted": self.hues[0], "natural": pick(rng, self.hues), "vivid": rng.random()}[self.kind]
        wander = 0.02 if self.kind == "tinted" else 0.05
        saturation = self.saturation * (rng.random() if self.kind == "natural" else between(rng, 0.5, 1))
        return hsv(hue + wander * rng.standard_normal(), saturation, value)

    def against(self, rng: np.random.Generator, ground: Color, contrast: float) -> Color:
        """A color whose distance from the ground is at least about ``contrast``; the farthest of a few if none is."""
        best, distance = ground, -1.0
        for _ in range(5):
            color = self.color(rng, between(rng, 0.05, 1.0))
            far = float(np.abs(color - ground).mean())
            if far >= contrast:
                return color
            if far > distance:
                best, distance = color, far
        return best


@dataclass(frozen=True)
class Texture:
    """A pattern with values of about -1..1.

    Attributes:
        tile: The noise field, the texture itself or what bends the pattern.
        pattern: ``waves``, ``stripes``, ``checks``, ``dots`` or None for noise alone.
        wavelength: Of the pattern, in pixels of a 256 px image.
        angle: Of the pattern, in radians.
        warp: How far noise bends the pattern, in wavelengths.
    """

    tile: str = "grain9"
    pattern: str | None = None
    wavelength: float = 8.0
    angle: float = 0.0
    warp: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Texture:
        """Any texture: mostly noise, a third regular patterns."""
        if chance(rng, 0.68):
            return cls(pick(rng, TILES[1:]))
        pattern = pick(rng, ("waves", "stripes", "checks", "dots"))
        warp = between(rng, 0.05, 0.5) if chance(rng, 0.5) else 0.0
        tile = pick(rng, ("grain16", "grain30", "cloud"))
        return cls(tile, pattern, log_between(rng, 3.5, 26), rng.random() * np.pi, warp)

    def sample(self, image_size: int, size: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
        """A piece of this height and width in pixels, from a random place."""
        if self.pattern is None:
            return cut(self.tile, image_size, size, rng, turn=not self.tile.startswith("fibre"))
        step = 2 * np.pi * 256 / (self.wavelength * image_size)
        y, x = np.arange(size[0], dtype=np.float32) * step, np.arange(size[1], dtype=np.float32) * step
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
        u = np.add.outer(y * sin + rng.random() * 6.28, x * cos)
        if self.warp:
            u += (2 * np.pi * self.warp) * cut(self.tile, image_size, size, rng)
        if self.pattern == "waves":
            return np.sin(u)
        sharpness = 1.5 / step  # one pixel from one color to the other
        if self.pattern == "stripes":
            return np.clip(np.sin(u) * sharpness, -1, 1)
        v = np.add.outer(y * cos + rng.random() * 6.28, -x * sin)
        both = np.sin(u) * np.sin(v) if self.pattern == "checks" else 0.5 * (np.sin(u) + np.sin(v)) - 0.35
        return np.clip(both * sharpness, -1, 1)


def texture_pair(rng: np.random.Generator) -> tuple[Texture, Texture]:
    """Two textures alike but for one property, or for none."""
    if chance(rng, 0.35):
        return Texture(pick(rng, FIBRES)), Texture(pick(rng, FIBRES))
    if chance(rng, 0.4):
        return Texture(pick(rng, ("grain3", "grain5", "rough"))), Texture(pick(rng, ("grain9", "leaves10", "cracks12")))
    texture = Texture(
        "grain16", pick(rng, ("waves", "stripes", "checks")), log_between(rng, 5, 14), rng.random() * 3.14
    )
    turned = replace(texture, angle=texture.angle + between(rng, 0.5, 1.57))
    return texture, turned if chance(rng, 0.6) else replace(texture, wavelength=texture.wavelength * 2)


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        color: Its mean.
        tint: What a unit of texture adds to the color.
        texture: None for an even surface.
        light: x and y slope of brightness over the object, from one side to the middle.
        bulge: Loss of brightness from the middle to the rim, as on a ball.
        gloss: Brightness of a highlight; it lies where ``light`` comes from.
        rim: Brightness added along the edge, negative for dark outlines.
        rim_width: In pixels of a 256 px image.
        opacity: 1 hides what is below.
        softness: Width of the edge's blur in pixels of a 256 px image.
    """

    color: Color
    tint: Color | float = 0.0
    texture: Texture | None = None
    light: tuple[float, float] = (0.0, 0.0)
    bulge: float = 0.0
    gloss: float = 0.0
    rim: float = 0.0
    rim_width: float = 2.0
    opacity: float = 1.0
    softness: float = 0.0

    def varied(self, rng: np.random.Generator, amount: float) -> Material:
        """Another individual of the same kind: brightness and hue off by about ``amount``."""
        common, *channels = (amount * rng.standard_normal(4)).tolist()
        shift = np.array([common + 0.35 * channel for channel in channels], np.float32)
        return replace(self, color=self.color + shift)

    def paint(self, canvas: Canvas, covered: Coverage, rng: np.random.Generator) -> None:
        """Lay it over what is on the canvas."""
        canvas.paint(covered, self.render(covered, canvas.size, rng), self.opacity)

    def fill(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Cover the whole canvas with it, as if it were opaque and without edges."""
        ground = replace(self, rim=0.0)
        canvas.image[:] = ground.render(Coverage.everywhere(canvas.size), canvas.size, rng)

    def render(self, covered: Coverage, image_size: int, rng: np.random.Generator) -> Float[np.ndarray, "3 h w"]:
        """Its colors over a window."""
        size = covered.alpha.shape
        pixels = np.empty((3, *size), np.float32)
        pixels[:] = self.color[:, None, None]
        if self.texture is not None:
            sample = self.texture.sample(image_size, size, rng)
            pixels += sample * (self.tint[:, None, None] if isinstance(self.tint, np.ndarray) else self.tint)
        if self.bulge or self.light != (0.0, 0.0) or self.gloss:
            self._shade(pixels)
        if self.rim:
            inner = covered.blurred(max(self.rim_width * image_size / 256, 0.5))
            pixels += (2 * self.rim) * np.clip(1.1 - inner, 0, 0.5)
        return pixels

    def _shade(self, pixels: Float[np.ndarray, "3 h w"]) -> None:
        height, width = pixels.shape[1:]
        y, x = _ramp(height), _ramp(width)
        # The bulge's mean over a disc is taken out, so that shading does not change the overall brightness.
        rows = self.light[1] * y - self.bulge * (y * y - 0.25)
        columns = 1 + self.light[0] * x - self.bulge * (x * x - 0.25)
        pixels *= np.add.outer(rows, columns)
        if self.gloss:
            length = float(np.hypot(*self.light)) or 1.0
            spot_y = np.exp(-(((y - 0.4 * self.light[1] / length) / 0.22) ** 2))
            spot_x = np.exp(-(((x - 0.4 * self.light[0] / length) / 0.22) ** 2))
            pixels += np.multiply.outer(self.gloss * spot_y, spot_x)


@lru_cache(maxsize=2048)
def _ramp(length: int) -> Float[np.ndarray, "length"]:
    return np.linspace(-1, 1, length, dtype=np.float32)
