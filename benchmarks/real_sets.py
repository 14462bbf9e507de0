"""Sets of real images with masks: what to add to ``python train.py`` for each, and what has to be written first.

A set is a folder of its name below a common root. Two are not used as they lie there: the annotations of
``fruits_nuts`` are polygons, which become one mask file an object, and the images of ``em_axon_myelin`` are so large
that an axon is a few pixels at the input of a small model, so a few tiles of each are cut out.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

TILE = 256  # the input of sam_nano: one pixel of the original is one of the input
TILES_AN_IMAGE = 6


def cut_tiles(source: Path, target: Path) -> None:
    """A few tiles of each image, chosen at random from a grid; their names begin with its name: groups still hold."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks_instance"):
        (target / folder).mkdir(parents=True)
    for path in sorted((source / "images").iterdir()):
        image, labels = Image.open(path), Image.open(source / "masks_instance" / path.name)
        corners = [(left, top) for top in _starts(image.height) for left in _starts(image.width)]
        for choice in sorted(random.permutation(len(corners))[:TILES_AN_IMAGE]):
            left, top = corners[choice]
            window = (left, top, left + TILE, top + TILE)
            name = f"{path.stem}_{left}_{top}.png"
            image.crop(window).save(target / "images" / name)
            labels.crop(window).save(target / "masks_instance" / name)


def _starts(length: int) -> range:
    return range(0, length - TILE + 1, TILE)


def write_object_masks(source: Path, target: Path) -> None:
    """The polygons of ``annotations_coco.json`` as ``masks/<image>/<number>.png`` beside copies of the images."""
    content = json.loads((source / "annotations_coco.json").read_text())
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    (target / "images").mkdir(parents=True)
    for image in content["images"]:
        path = Path(image["file_name"])
        shutil.copyfile(source / "images" / path, target / "images" / path)
        (target / "masks" / path.stem).mkdir(parents=True)
        for number, annotation in enumerate(annotations[image["id"]]):
            parts = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
            pixels = coco_mask.decode(coco_mask.merge(parts))
            Image.fromarray(pixels * np.uint8(255)).save(target / "masks" / path.stem / f"{number:03}.png")


@dataclass(frozen=True)
class RealSet:
    """How a set is used.

    Attributes:
        convert: Writes from the set's folder the one that is read; None where that is the set's own.
        settings: What the command line has beside the set's experiment file.
    """

    convert: Callable[[Path, Path], None] | None = None
    settings: tuple[str, ...] = ()


FEW_IMAGES = ("data.split=[0.5,0.15,0.35]",)
"""With a few dozen images the usual 15 per cent would be two to five images to judge by."""

SETS = {
    "nuclei_fluorescence": RealSet(),
    "nuclei_histology": RealSet(),
    "em_axon_myelin": RealSet(cut_tiles),
    "buildings_aerial": RealSet(),
    "balloon": RealSet(settings=FEW_IMAGES),
    "fruits_nuts": RealSet(write_object_masks, ("data=folder", *FEW_IMAGES)),
}


def overrides(name: str, data: Path, out: Path) -> list[str]:
    """The set's own part of the command line, after converting it once into ``out`` where that is needed.

    The split is the same for every ``seed=``: it depends on ``data.split_seed``, which stays as it is.
    """
    real_set, root = SETS[name], data / name
    if real_set.convert is not None:
        root = out / "converted" / name
        if not root.exists():
            unfinished = root.with_name(f".{name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            real_set.convert(data / name, unfinished)
            unfinished.rename(root)
    return [f"experiment={name}", f"data.root={root}", *real_set.settings]


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for the terminal, then the same in Markdown."""
    table = Table(title=title)
    for number, column in enumerate(header):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    Console(width=160).print(table)
    lines = [header, ["---"] * len(header), *rows]
    print(f"\n**{title}**\n", *(f"| {' | '.join(line)} |" for line in lines), "", sep="\n")
