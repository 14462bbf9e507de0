"""Where objects go, in image sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial import Voronoi

from sam_train.data.world.canvas import Canvas
from sam_train.data.world.draws import between, chance, count, pick
from sam_train.data.world.objects import XY, Drawable
from sam_train.data.world.outlines import Outline

Placement = Literal["free", "apart", "touching", "clustered", "grid"]


def scatter(
    canvas: Canvas,
    kinds: Sequence[Drawable],
    number: int,
    fill: float,
    placement: Placement,
    rng: np.random.Generator,
) -> None:
    """That many objects of these kinds whose discs together would cover the part ``fill`` of the image."""
    if not number:
        return
    radii = np.exp(between(rng, 0.05, 0.6) * rng.standard_normal(number))
    radii *= (fill / (np.pi * (radii**2).sum())) ** 0.5
    radii = np.clip(radii, 0.012, 0.6)
    if placement != "grid" and chance(rng, 0.7):
        radii = np.sort(radii)[::-1]  # small ones in front, lest they vanish
    for (x, y), radius in zip(place(rng, radii, placement).tolist(), radii.tolist(), strict=True):
        pick(rng, kinds).draw(canvas, (x, y), radius, rng)


def sprinkle(canvas: Canvas, kinds: Sequence[Drawable], rng: np.random.Generator, most: int = 6) -> None:
    """At most that many tiny ones, anywhere."""
    number = count(rng, 0, most)
    scatter(canvas, kinds, number, number * np.pi * 0.017**2, "free", rng)


def place(rng: np.random.Generator, radii: Float[np.ndarray, "n"], placement: Placement) -> Float[np.ndarray, "n 2"]:
    """Centers x, y for objects of these radii, a few of them partly outside the image.

    ``free`` lets them overlap, ``apart`` keeps them as far from one another as there is room, ``touching`` sets many
    against an earlier one, ``clustered`` gathers them, ``grid`` puts them in rows.
    """
    if placement == "grid":
        return _grid(rng, len(radii))
    if placement == "clustered":
        hubs = rng.random((count(rng, 1, 4), 2))
        spread = between(rng, 0.05, 0.2)
        return hubs[(rng.random(len(radii)) * len(hubs)).astype(int)] + spread * rng.standard_normal((len(radii), 2))
    # Large objects lie mostly inside, small ones may stick out anywhere.
    inset = np.minimum(0.4 * radii, 0.3)[:, None] - 0.02
    centers = inset + rng.random((len(radii), 2)) * (1 - 2 * inset)
    if placement == "free":
        return centers
    for index in range(1, len(radii)):
        if placement == "touching" and chance(rng, 0.7):
            other, angle = int(rng.random() * index), rng.random() * 2 * np.pi
            distance = (radii[index] + radii[other]) * between(rng, 0.75, 1.02)
            center = centers[other] + distance * np.array([np.cos(angle), np.sin(angle)])
            centers[index] = np.abs((center + 1) % 2 - 1)  # mirrored back into the image
        else:
            centers[index] = _farthest(rng, centers[:index], radii[:index], radii[index])
    return centers


def _farthest(
    rng: np.random.Generator, centers: Float[np.ndarray, "n 2"], radii: Float[np.ndarray, "n"], radius: float
) -> Float[np.ndarray, "2"]:
    """Of a dozen places the one with most room (Mitchell's best candidate)."""
    inset = min(0.4 * radius, 0.3) - 0.02
    candidates = inset + rng.random((12, 2)) * (1 - 2 * inset)
    gaps = np.hypot(*(candidates[:, None] - centers).transpose(2, 0, 1)) - radii
    room = np.minimum(gaps.min(1), 1.5 * radius)  # enough is enough: no preference for empty corners
    return candidates[int(room.argmax())]


def _grid(rng: np.random.Generator, number: int) -> Float[np.ndarray, "n 2"]:
    columns = max(int(np.ceil(number**0.5 * between(rng, 0.8, 1.25))), 1)
    rows = -(-number // columns)
    index = np.arange(number)
    x, y = (index % columns + 0.5) / columns, (index // columns + 0.5) / rows
    x = x + (index // columns % 2) * (0.5 / columns if chance(rng, 0.3) else 0.0)  # brickwork
    cells = np.stack([x, y], 1) + rng.standard_normal((number, 2)) * between(rng, 0, 0.12) / columns
    angle = 0.12 * rng.standard_normal()
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (cells - 0.5) @ turn + 0.5


def tessellation(rng: np.random.Generator, number: int, rounded: bool = False) -> list[tuple[XY, Outline]]:
    """About that many touching cells that fill the image: Voronoi cells of scattered or ordered seeds.

    Borders are wavy in a way that neighbors share, and each cell is a little smaller than its place.

    Returns:
        Per cell its center and its outline about that center, both in image sides.
    """
    spacing = number**-0.5
    side = np.arange(-0.5, 1.5, spacing)
    seeds = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    seeds += rng.standard_normal(seeds.shape) * spacing * between(rng, 0.05, 0.4)
    diagram = Voronoi(seeds)
    phases, wave = rng.random(4) * 2 * np.pi, 2 * np.pi / (spacing * between(rng, 0.7, 2.5))
    sway, shrink = spacing * between(rng, 0.0, 0.12), between(rng, 0.8, 0.99)
    cells = []
    for seed, region in zip(seeds, diagram.point_region, strict=True):
        corners = diagram.regions[region]
        if -1 in corners or np.abs(seed - 0.5).max() > 0.5 + 0.4 * spacing:
            continue
        points = _finer(diagram.vertices[corners], rounded)
        bend = np.sin(points[:, ::-1] * wave + phases[:2]) + 0.5 * np.sin(points * (2.3 * wave) + phases[2:])
        cells.append(((float(seed[0]), float(seed[1])), Outline.join([shrink * (points - seed) + sway * bend])))
    return cells


def _finer(corners: Float[np.ndarray, "n 2"], rounded: bool) -> Float[np.ndarray, "m 2"]:
    """More points on the same polygon, or on a smooth curve in it (Chaikin's corner cutting)."""
    near, far = (0.75, 0.25) if rounded else (1.0, 0.5)
    for _ in range(3):
        following = np.roll(corners, -1, 0)
        pairs = [near * corners + (1 - near) * following, far * corners + (1 - far) * following]
        corners = np.stack(pairs, 1).reshape(-1, 2)
    return corners
