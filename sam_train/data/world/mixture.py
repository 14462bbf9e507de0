"""The wide procedural world a base model is pretrained on.

Every scene draws its own palette, ground, kinds of objects, arrangement, light and camera, each on its own, so that
what holds in one scene helps little in the next but for one thing: objects are regions that belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8

from sam_train.data.world import outlines
from sam_train.data.world.canvas import Canvas
from sam_train.data.world.compound import Compound
from sam_train.data.world.draws import between, chance, count, log_between, log_count, pick, pick_weighted
from sam_train.data.world.layout import Placement, scatter, tessellation
from sam_train.data.world.look import Look
from sam_train.data.world.materials import Material, Texture, texture_pair
from sam_train.data.world.objects import Drawable, Kind, Pose
from sam_train.data.world.optics import camera

Scene = Callable[[Canvas, Look, np.random.Generator], None]


def world(canvas: Canvas, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """A scene of the wide mixture."""
    look = Look.draw(rng)
    look.paint_ground(canvas, rng)
    pick_weighted(rng, SCENES)(canvas, look, rng)
    if chance(rng, 0.08):
        _cover_with_threads(canvas, look, rng)
    return camera(canvas.image, rng, gray=look.palette.kind == "gray")


def _cover_with_threads(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Hairs and wires in front of everything that belong to no object."""
    kind = look.kind(rng, outlines.THIN)
    for _ in range(count(rng, 1, 3)):
        covered = Pose(kind.family(rng), (rng.random(), rng.random()), between(rng, 0.2, 0.7)).cover(canvas)
        if covered is not None:
            kind.material.paint(canvas, covered, rng)
            canvas.label(covered)


def _mixed(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """A few kinds of objects in any arrangement."""
    placement: Placement = pick_weighted(rng, {"free": 2, "apart": 4, "touching": 3, "clustered": 1.5})
    kinds = look.kinds(rng, count(rng, 1, 4), overlapping=placement != "apart")
    scatter(canvas, kinds, log_count(rng, 1, 60), log_between(rng, 0.06, 0.7), placement, rng)


def _compounds(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Things made of several pieces, alone or repeated, among plain ones."""
    kinds: list[Drawable] = [
        replace(Compound.design(rng, look.material), shadow=look.shadow) for _ in range(count(rng, 1, 3))
    ]
    if chance(rng, 0.4):
        kinds.append(look.kind(rng))
    scatter(canvas, kinds, log_count(rng, 1, 20), log_between(rng, 0.1, 0.7), pick(rng, ("apart", "free", "grid")), rng)


def _crowd(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Many copies of one kind: grids, seeds, cells."""
    placement: Placement = pick_weighted(rng, {"grid": 3, "apart": 3, "touching": 2})
    kinds = look.kinds(rng, 1, overlapping=placement == "touching")
    number = log_count(rng, 12, 100 if kinds[0].parts is None else 40)
    scatter(canvas, kinds, number, between(rng, 0.15, 0.6), placement, rng)


def _clutter(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Objects over objects until little ground is left."""
    kinds = replace(look, contrast=0.02).kinds(rng, 5, overlapping=True)
    scatter(canvas, kinds, count(rng, 12, 36), between(rng, 0.8, 1.6), "free", rng)


def _mosaic(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Touching cells, tiles or fields that fill the image."""
    kinds = [replace(look.kind(rng), parts=None, shadow=None) for _ in range(count(rng, 1, 3))]
    for center, outline in tessellation(rng, log_count(rng, 5, 60), rounded=chance(rng, 0.5)):
        pick(rng, kinds).draw_at(canvas, Pose(outline, center), rng)


def _fibres(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Packed rings with thick walls, as cut nerves, pipes, wood or foam show."""
    tones = [between(rng, 0.03, 0.35), between(rng, 0.45, 0.95)]
    core, wall = tones if chance(rng, 0.7) else tones[::-1]
    texture, color = Texture(pick(rng, ("grain3", "grain5", "white", "rough"))), look.palette.color(rng, 1.0)
    materials = [Material(tone * color, 0.04, texture, softness=look.softness) for tone in (wall, core)]
    outer = replace(materials[0], rim=between(rng, -0.25, 0.1), rim_width=1.0)
    kind = Kind(pick(rng, (outlines.disc, outlines.blob)), outer, parts="wall", part_material=materials[1])
    if chance(rng, 0.5):
        for center, outline in tessellation(rng, log_count(rng, 8, 50), rounded=True):
            kind.draw_at(canvas, Pose(outline, center), rng)
    else:
        scatter(canvas, [kind], log_count(rng, 8, 40), between(rng, 0.4, 0.9), "apart", rng)


def _roofs(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Rectilinear things with sloped halves and cast shadows, seen from above, among round bushes."""
    angle, shadow = rng.random() * 2 * np.pi, look.shadow or (between(rng, 1, 5), between(rng, -4, 4))
    kinds = []
    for _ in range(count(rng, 1, 4)):
        sheet = replace(look.material(rng), bulge=0.0, gloss=0.0, rim=0.0, softness=0.0, opacity=1.0)
        slope = replace(sheet, color=sheet.color * between(rng, 0.55, 0.95))
        family, parts = (
            pick(rng, (outlines.rectangle, outlines.rectilinear)),
            pick(rng, ("half", "half", "spots", None)),
        )
        kinds.append(Kind(family, sheet, None, 0.06, angle, shadow, parts, slope))
    if chance(rng, 0.5):
        bush = Material(look.palette.color(rng, 0.3), 0.1, Texture(pick(rng, ("leaves10", "rough"))), bulge=0.3)
        scatter(canvas, [Kind(outlines.ragged, bush, shadow=shadow)], count(rng, 1, 8), 0.15, "clustered", rng)
    scatter(canvas, kinds, log_count(rng, 1, 25), between(rng, 0.2, 0.9), pick(rng, ("apart", "grid")), rng)


def _still_life(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Solid, lit, often glossy things on a table: fruit, nuts, balloons, pebbles."""
    kinds = []
    for _ in range(count(rng, 1, 4)):
        light, bulge, gloss = look.light(between(rng, 0.1, 0.4)), between(rng, 0.2, 0.55), between(rng, 0.0, 0.5)
        surface = replace(look.material(rng), light=light, bulge=bulge, gloss=gloss, rim=0.0, opacity=1.0)
        family = pick(rng, (outlines.disc, outlines.ellipse, outlines.drop, outlines.bean, outlines.blob))
        kinds.append(Kind(family, surface, variation=0.06, shadow=look.shadow))
    placement: Placement = pick(rng, ("apart", "touching", "clustered"))
    scatter(canvas, kinds, log_count(rng, 1, 30), log_between(rng, 0.1, 0.7), placement, rng)


def _faint(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Bright or barely visible soft spots on a dark ground."""
    canvas.image *= 0.3
    brightness = log_between(rng, 0.05, 0.9)
    surface = Material(
        look.palette.color(rng, brightness),
        tint=brightness * between(rng, 0.0, 0.2),
        texture=Texture(pick(rng, ("grain5", "grain9", "cloud", "bubbles9"))),
        bulge=between(rng, 0.0, 0.5),
        rim=brightness * between(rng, -0.2, 0.2),
        softness=log_between(rng, 0.5, 2.5),
    )
    family = pick(rng, (outlines.ellipse, outlines.disc, outlines.blob))
    kind = Kind(family, surface, variation=0.25 * brightness)
    placement: Placement = pick_weighted(rng, {"apart": 3, "touching": 2, "clustered": 1})
    scatter(canvas, [kind], log_count(rng, 3, 80), between(rng, 0.04, 0.45), placement, rng)


def _camouflage(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Objects of the ground's own color that differ in the direction or grain of its texture, or by their edge."""
    color = look.ground.color
    tint = (between(rng, 0.08, 0.25) * (0.4 + color)).astype(np.float32)
    texture, other = texture_pair(rng)
    ground = Material(color, tint, texture)
    ground.fill(canvas, rng)
    rim = between(rng, -0.25, -0.08) if other == texture or chance(rng, 0.3) else 0.0
    kind = Kind(pick(rng, outlines.ALL), replace(ground, texture=other, rim=rim, rim_width=1.0), variation=0.015)
    scatter(canvas, [kind], log_count(rng, 1, 14), between(rng, 0.15, 0.5), "apart", rng)


def _anatomy(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """One or two large bodies with smooth organs inside."""
    for _ in range(count(rng, 1, 2)):
        body = replace(look.material(rng), softness=between(rng, 0, 1.5), gloss=0.0, opacity=1.0)
        kind = Kind(pick(rng, (outlines.blob, outlines.ellipse, outlines.rounded)), body, variation=0.1)
        radius = between(rng, 0.25, 0.55)
        covered = kind.draw(canvas, (between(rng, 0.3, 0.7), between(rng, 0.3, 0.7)), radius, rng)
        if covered is None:
            continue
        whole = len(canvas.levels)
        rows, columns = covered.window
        for _ in range(log_count(rng, 1, 12)):
            center = (
                between(rng, columns.start, columns.stop) / canvas.size,
                between(rng, rows.start, rows.stop) / canvas.size,
            )
            organ = replace(look.material(rng), opacity=between(rng, 0.4, 1.0))
            pose = Pose(
                pick(rng, outlines.ROUND)(rng), center, radius * log_between(rng, 0.06, 0.45), rng.random() * 6.28
            )
            part = pose.cover(canvas, organ.softness * canvas.scale, inside=covered)
            if part is not None:
                organ.paint(canvas, part, rng)
                canvas.label(part, whole, canvas.new_object(1))


def _network(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Thin and branching things: vessels, roots, wires, twigs."""
    kinds = [look.kind(rng, outlines.THIN) for _ in range(count(rng, 1, 2))]
    scatter(canvas, kinds, log_count(rng, 1, 12), log_between(rng, 0.3, 1.2), pick(rng, ("free", "apart")), rng)


SCENES: Mapping[Scene, float] = MappingProxyType(
    {
        _mixed: 0.25,
        _compounds: 0.12,
        _crowd: 0.09,
        _clutter: 0.06,
        _mosaic: 0.05,
        _fibres: 0.07,
        _roofs: 0.08,
        _still_life: 0.1,
        _faint: 0.07,
        _camouflage: 0.05,
        _anatomy: 0.07,
        _network: 0.04,
    }
)
"""The kinds of scenes and how often each is drawn."""
