"""Periodic noise fields from which every texture is cut.

A field is made once per process and image size from a fixed seed and then only cropped, which is what makes a hundred
images a second possible. Fields have mean 0 and standard deviation 1; their grain scales with the image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

_SEED = 20240229

# Name -> (kind, wavelength in pixels of a 256 px image, angle in degrees)
_RECIPES: dict[str, tuple[str, float, float]] = {
    "white": ("white", 1, 0),
    **{f"grain{length}": ("band", length, 0) for length in (3, 5, 9, 16, 30, 60)},
    "cloud": ("power", 1.9, 0),
    "rough": ("power", 1.2, 0),
    **{f"fibre{angle}": ("fibre", 4, angle) for angle in (0, 36, 72, 108, 144)},
    **{f"bubbles{length}": ("bubbles", length, 0) for length in (9, 18)},
    **{f"cracks{length}": ("cracks", length, 0) for length in (12, 28)},
    **{f"leaves{length}": ("leaves", length, 0) for length in (10, 26)},
    **{f"creases{length}": ("creases", length, 0) for length in (10, 30)},
}
TILES = tuple(_RECIPES)


@lru_cache(maxsize=64)
def tile(name: str, image_size: int) -> Float[np.ndarray, "side side"]:
    """One field, read-only; its opposite edges meet."""
    kind, length, angle = _RECIPES[name]
    # Bounded, since every worker holds its own: 4 MB a field at most.
    side = 512 if image_size <= 512 else 1024
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(_SEED, spawn_key=(TILES.index(name),))))
    scale = image_size / 256
    if kind in ("bubbles", "cracks"):
        field = _voronoi(rng, side, length * scale, cracks=kind == "cracks")
    elif kind == "leaves":
        field = _dead_leaves(rng, side, length * scale)
    else:
        field = _spectral(rng, side, kind, length, angle, scale)
    field -= field.mean()
    field = np.clip(field / field.std(), -3, 3).astype(np.float32)
    field.flags.writeable = False
    return field


def cut(
    name: str, image_size: int, size: tuple[int, int], rng: np.random.Generator, turn: bool = True
) -> Float[np.ndarray, "h w"]:
    """A piece of a field, at most ``image_size`` on a side, from a random place, in any of eight orientations.

    Args:
        name: One of :data:`TILES`.
        image_size: Side of the image in pixels.
        size: Height and width of the piece.
        rng: Draws place and orientation.
        turn: Whether to rotate and mirror; False keeps the direction of a ``fibre`` field.
    """
    field = tile(name, image_size)
    orientation = int(rng.random() * 8) if turn else 0
    height, width = size[::-1] if orientation & 1 else size
    piece = _wrap(field, int(rng.random() * len(field)), height)
    piece = _wrap(piece.T, int(rng.random() * len(field)), width).T
    if orientation & 1:
        piece = piece.T
    return piece[:: -1 if orientation & 2 else 1, :: -1 if orientation & 4 else 1]


def _wrap(field: Float[np.ndarray, "n m"], start: int, length: int) -> Float[np.ndarray, "length m"]:
    beyond = start + length - len(field)
    return field[start : start + length] if beyond <= 0 else np.concatenate([field[start:], field[:beyond]])


def _spectral(
    rng: np.random.Generator, side: int, kind: str, length: float, angle: float, scale: float
) -> Float[np.ndarray, "side side"]:
    """Filtered white noise: ``band`` around a wavelength, ``power`` law, ``fibre`` stretched, ``creases`` ridged."""
    noise = rng.standard_normal((side, side)).astype(np.float32)
    if kind == "white":
        return noise
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    y, x = y * scale, x * scale
    frequency = np.hypot(x, y)
    if kind == "power":
        gain = np.maximum(frequency, 1 / 256) ** -length
    elif kind == "fibre":
        turn = np.deg2rad(angle)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        gain = np.exp(-((along * length * 8) ** 2)) * np.exp(-(((np.abs(across) * length - 0.5) * 2.5) ** 2))
    else:
        gain = np.exp(-(((frequency * length - 1) / 0.45) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(noise) * gain, s=(side, side))
    return np.minimum(np.abs(field) / field.std(), 1) if kind == "creases" else field


def _voronoi(rng: np.random.Generator, side: int, length: float, cracks: bool) -> Float[np.ndarray, "side side"]:
    """Distance to the nearest of scattered points, or the thin borders between their cells."""
    half = side // 2  # made at half the side and repeated: the search is what takes time
    points = rng.random((max(int((half / length) ** 2), 4), 2)) * half
    y, x = np.mgrid[:half, :half]
    distance, _ = KDTree(points, boxsize=half).query(np.stack([y.ravel(), x.ravel()], 1), k=2)
    field = np.minimum(distance[:, 1] - distance[:, 0], 0.25 * length) if cracks else -distance[:, 0]
    return np.tile(field.reshape(half, half), (2, 2))


def _dead_leaves(rng: np.random.Generator, side: int, length: float) -> Float[np.ndarray, "side side"]:
    """Discs of random gray that hide one another: edges at all scales, as in photographs (Lee et al., IJCV 2001)."""
    field = np.zeros((side, side))
    for _ in range(int(14 * (side / length) ** 2 / 10)):
        radius = length * min(0.25 * (1 - rng.random()) ** -0.5, 2.0)
        reach = int(radius) + 1
        y, x = (rng.random(2) * side).astype(int)
        offsets = np.arange(-reach, reach + 1)
        rows, columns = (offsets + y) % side, (offsets + x) % side
        inside = offsets[:, None] ** 2 + offsets[None, :] ** 2 < radius**2
        block = np.ix_(rows, columns)
        field[block] = np.where(inside, rng.standard_normal(), field[block])
    return field
