"""Small pictures of what a check found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from sam_train.curation.copies import Pair
from sam_train.curation.scan import Scan
from sam_train.curation.suspicions import Suspicion
from sam_train.data.sources.base import no_objects
from sam_train.inference.object_crops import SIDE, cut, outlined, window_around
from sam_train.inference.overlay import grid, paint, panel
from sam_train.pages import picture_uri
from sam_train.structures import Sample

MOST = 8  # of a rule


class Picture(NamedTuple):
    """A picture for a page.

    Attributes:
        uri: Of its content.
        caption: What it shows.
    """

    uri: str
    caption: str


def draw_suspects(scan: Scan, rule: Suspicion, rows: Sequence[int]) -> list[Picture]:
    """Draw the first of the objects that break a rule: the image around each, and its outline."""
    draw = _draw_image if rule == Suspicion.EMPTY else _draw_object
    return [draw(scan, int(row)) for row in rows[:MOST]]


def draw_pairs(scan: Scan, pairs: Sequence[Pair]) -> list[Picture]:
    """Draw the first of some pairs of images, side by side."""
    found = []
    for pair in pairs[:MOST]:
        shown = [("", panel(_read(scan, row, with_objects=False).image)) for row in pair]
        names = list(scan.splits)
        caption = " and ".join(f"{scan.name(row)} ({names[scan.images['split'][row]]})" for row in pair)
        found.append(Picture(picture_uri(grid([shown])), caption))
    return found


def _draw_object(scan: Scan, row: int) -> Picture:
    one = scan.objects[row]
    sample = _read(scan, int(one["image"]))
    mask = sample.keep(sample.value == int(one["value"])).masks()[0]
    top, left, side = window_around(mask)
    part = cut(sample.image, top, left, side).permute(1, 2, 0).contiguous().numpy()
    inside = cut(mask[None].byte(), top, left, side)[0] > 0
    shown = outlined(Image.fromarray(part).resize((SIDE, SIDE)), inside)
    name = scan.categories[one["category"]]
    what = f"{name} " if name else "object "
    return Picture(picture_uri(shown), f"{scan.name(int(one['image']))}, {what}{one['value']}: {one['area']:,} px")


def _draw_image(scan: Scan, row: int) -> Picture:
    sample = _read(scan, row)
    picture = panel(sample.image, paint(sample.each_mask(), sample.size))
    return Picture(picture_uri(picture), f"{scan.name(row)}: {scan.images['empty'][row]} without a pixel")


def _read(scan: Scan, row: int, with_objects: bool = True) -> Sample:
    image = scan.images[row]
    images = list(scan.splits.values())[image["split"]]
    return images.read(int(image["index"])) if with_objects else images.read(int(image["index"]), no_objects)
