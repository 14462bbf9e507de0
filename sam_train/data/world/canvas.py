"""A picture and the exact masks of what was painted on it.

Coordinates are x, y in image sides, whatever the resolution: (0, 0) is the top left corner, (1, 1) the bottom right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw, ImageFilter

from sam_train.data.world.outlines import Outline

LEVELS = 3
"""Label planes: wholes, their parts, the parts of parts."""

_SUPERSAMPLING = 4  # sub-pixels a side: Pillow draws polygons 0.3 sub-pixels too wide


@dataclass(frozen=True)
class Coverage:
    """How much of each pixel in a window of the image an object covers.

    Attributes:
        y: First row of the window, in pixels.
        x: First column.
        alpha: 0 outside, 1 inside, in between on the edge.
    """

    y: int
    x: int
    alpha: Float[np.ndarray, "h w"]

    @classmethod
    def everywhere(cls, size: int) -> Coverage:
        """All of an image of this side."""
        return cls(0, 0, np.ones((size, size), np.float32))

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """The pixels that the object covers by half or more."""
        return self.alpha >= 0.5

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        height, width = self.alpha.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    def within(self, other: Coverage) -> Coverage:
        """What of this lies on the other; None of it may lie outside the other's window."""
        rows, columns = self.window
        alpha = other.alpha[
            rows.start - other.y : rows.stop - other.y, columns.start - other.x : columns.stop - other.x
        ]
        return replace(self, alpha=self.alpha * alpha)

    def without(self, other: Coverage) -> Coverage:
        """This minus the other, whose window lies in this one's."""
        alpha = self.alpha.copy()
        rows, columns = other.window
        alpha[rows.start - self.y : rows.stop - self.y, columns.start - self.x : columns.stop - self.x] *= (
            1 - other.alpha
        )
        return replace(self, alpha=alpha)

    def blurred(self, radius: float) -> Float[np.ndarray, "h w"]:
        """``alpha`` under a box filter of this radius in pixels."""
        image = Image.fromarray((self.alpha * 255).astype(np.uint8))
        return _to_array(image.filter(ImageFilter.BoxBlur(radius)))


class Canvas:
    """An image under construction.

    Attributes:
        size: Side in pixels.
        image: Red, green and blue, nominally 0..1.
        labels: Per level, the object that is visible at each pixel; 0 is none.
        levels: Per object (object i is number i + 1), its level.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.image = np.zeros((3, size, size), np.float32)
        self.labels = np.zeros((LEVELS, size, size), np.int32)
        self.levels: list[int] = []

    @property
    def scale(self) -> float:
        """Pixels of this image in one pixel of a 256 px image."""
        return self.size / 256

    def new_object(self, level: int = 0) -> int:
        """A number for an object of this level."""
        self.levels.append(level)
        return len(self.levels)

    def cover(
        self,
        outline: Outline,
        center: tuple[float, float] = (0.0, 0.0),
        radius: float = 1.0,
        angle: float = 0.0,
        *,
        softness: float = 0.0,
        margin: int = 1,
        inside: Coverage | None = None,
    ) -> Coverage | None:
        """The pixels an outline covers, or None if it lies outside the image.

        Args:
            outline: Polygons about the origin.
            center: Where the origin goes, in image sides.
            radius: Length of the outline's unit, in image sides.
            angle: Counter-clockwise turn in radians, before the move.
            softness: Radius in pixels of a blur of the edge.
            margin: Pixels of window kept free around the outline.
            inside: Restricts the result to this window and this object.
        """
        cos, sin = math.cos(angle) * radius * self.size, math.sin(angle) * radius * self.size
        points = outline.points @ np.array([[cos, sin], [-sin, cos]])
        points += np.array([center[0] * self.size, center[1] * self.size])
        margin += math.ceil(2 * softness)
        top, left, bottom, right = self._bounds(inside)
        (least_x, least_y), (most_x, most_y) = points.min(0).tolist(), points.max(0).tolist()
        x0, y0 = max(int(least_x) - margin, left), max(int(least_y) - margin, top)
        x1, y1 = min(int(most_x) + margin + 1, right), min(int(most_y) + margin + 1, bottom)
        if x1 <= x0 or y1 <= y0:
            return None
        alpha = _rasterise(points - (x0, y0), outline, (x1 - x0, y1 - y0), softness)
        covered = Coverage(y0, x0, alpha)
        return covered if inside is None else covered.within(inside)

    def paint(self, covered: Coverage, color: Float[np.ndarray, "3 h w"] | float, opacity: float = 1.0) -> None:
        """Lay a color over what is there."""
        rows, columns = covered.window
        below = self.image[:, rows, columns]
        below += covered.alpha * opacity * (color - below)

    def label(self, covered: Coverage, *numbers: int) -> None:
        """Make these objects the visible ones, one per level from the top; deeper levels become empty there."""
        rows, columns = covered.window
        mask = covered.mask
        for level in range(LEVELS):
            number = numbers[level] if level < len(numbers) else 0
            self.labels[level, rows, columns][mask] = number

    def areas(self) -> Int[np.ndarray, "P"]:
        """Visible pixels of each object."""
        used = self.labels[: max(self.levels, default=0) + 1]
        return np.bincount(used.ravel(), minlength=len(self.levels) + 1)[1:]

    def _bounds(self, inside: Coverage | None) -> tuple[int, int, int, int]:
        if inside is None:
            return 0, 0, self.size, self.size
        rows, columns = inside.window
        return rows.start, columns.start, rows.stop, columns.stop


def _rasterise(
    points: Float[np.ndarray, "n 2"], outline: Outline, size: tuple[int, int], softness: float
) -> Float[np.ndarray, "h w"]:
    fine = Image.new("L", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
    draw = ImageDraw.Draw(fine)
    points = points * _SUPERSAMPLING
    start = 0
    for end, solid in zip(outline.ends, outline.solid, strict=True):
        draw.polygon(points[start:end].ravel().tolist(), fill=255 if solid else 0)
        start = end
    coarse = fine.reduce(_SUPERSAMPLING)
    if softness:
        coarse = coarse.filter(ImageFilter.BoxBlur(softness))
    return _to_array(coarse)


def _to_array(image: Image.Image) -> Float[np.ndarray, "h w"]:
    # Half the time of np.asarray(image), which counts for images with many small objects.
    values = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width)
    return values * np.float32(1 / 255)
