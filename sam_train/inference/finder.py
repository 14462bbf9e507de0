"""Objects of whole images: everything, what a head has learned to find, or what was prompted; large ones in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import UInt8
from rich.progress import Progress
from torch import Tensor

from sam_train.data.sources.prompt_files import GivenObject
from sam_train.errors import InputError
from sam_train.inference.center_finder import OVERLAP, CenterFinder
from sam_train.inference.images import ImageLike, encode_pixels
from sam_train.inference.instances import Instances
from sam_train.inference.mask_generator import Everything, MaskGenerator
from sam_train.inference.point_grids import Crop
from sam_train.inference.predictor import Predictor
from sam_train.inference.restoring import full_runs
from sam_train.inference.tiling import stitch, tiles
from sam_train.limits import check_limits
from sam_train.progress import watched

_OBJECTS_AT_ONCE = 32
_MARGIN = 0.25  # around an object that no tile holds, as a share of its extent


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        side: Of a tile in pixels; larger images are looked at tile by tile. None for no tiles.
        overlap: Of neighboring tiles in pixels; objects of up to this size are whole in some tile.
        threshold: Masks of two tiles whose IoU where the tiles overlap is above it are of one object.
    """

    side: int | None = None
    overlap: int = 256
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_limits("tile", vars(self))
        if self.side is not None and self.overlap >= self.side:
            raise InputError(f"tile.overlap={self.overlap}: expected fewer pixels than tile.side={self.side}")

    def of(self, size: tuple[int, int]) -> list[Crop]:
        """Return the tiles of an image of this height and width; one where it is not to be cut."""
        side = max(size) if self.side is None else self.side
        return tiles(size, side, min(self.overlap, side - 1))


class Finder:
    """Finds objects in whole images.

    Args:
        predictor: With the model.
        grid: How everything is looked for.
        tiling: How large images are cut.
        min_score: Objects of a lower score are left out.
        center: With the head of a run that has one.

    Attributes:
        progress: Shows which tile of an image is looked at, if anybody watches.
    """

    def __init__(
        self,
        predictor: Predictor,
        grid: Everything | None = None,
        tiling: Tiling | None = None,
        min_score: float = 0.0,
        center: CenterFinder | None = None,
    ) -> None:
        self.predictor = predictor
        self.center = center
        self.generator = MaskGenerator(predictor, grid)
        self.tiling = tiling or Tiling()
        self.min_score = min_score
        self.progress: Progress | None = None

    def everything(self, pixels: UInt8[Tensor, "3 h w"]) -> Instances:
        """Return all objects of an image, best first."""
        return self._finished(self._by_tiles(pixels, lambda part: Instances.of(self.generator.find(part))))

    def find(self, image: ImageLike) -> Instances:
        """Return the objects that the run's head has learned to find, with their names, best first.

        Raises:
            InputError: If there is no head, or it is no image.
        """
        return self.named(self.predictor.read(image))

    def named(self, pixels: UInt8[Tensor, "3 h w"]) -> Instances:
        """Return the same of an image that was read.

        Raises:
            InputError: If there is no head.
        """
        if self.center is None:
            raise InputError("no head that finds objects: train one with prompter=center, or look for everything")
        found = self._by_tiles(pixels, self.center.find)
        return self._finished(found.distinct(OVERLAP) if self.tiling.side is not None else found)

    def _by_tiles(self, pixels: UInt8[Tensor, "3 h w"], find: Callable[[Tensor], Instances]) -> Instances:
        size = pixels.shape[1], pixels.shape[2]
        crops = self.tiling.of(size)
        if len(crops) == 1:
            return find(pixels)
        watched_crops = watched(crops, len(crops), self.progress, "tiles")
        return stitch([(crop, find(_cut(pixels, crop))) for crop in watched_crops], size, self.tiling.threshold)

    def prompted(self, pixels: UInt8[Tensor, "3 h w"], given: Sequence[GivenObject]) -> Instances:
        """Return an object for each that was given, best first.

        Raises:
            InputError: If a prompt is not on the image.
        """
        size = pixels.shape[1], pixels.shape[2]
        for one in given:  # told of the whole image, before any part of it is encoded
            self.predictor.pack(_prompts([one]), size)
        by_crop: dict[Crop, list[GivenObject]] = {}
        crops = self.tiling.of(size)
        for one in given:
            by_crop.setdefault(_crop_for(one, crops, size), []).append(one)
        groups = watched(by_crop.items(), len(by_crop), self.progress, "tiles")
        parts = [self._in_crop(pixels, crop, objects) for crop, objects in groups]
        return self._finished(Instances.cat(parts, size))

    @torch.no_grad()
    def _in_crop(self, pixels: UInt8[Tensor, "3 h w"], crop: Crop, given: Sequence[GivenObject]) -> Instances:
        predictor, size = self.predictor, (pixels.shape[1], pixels.shape[2])
        image = encode_pixels(predictor.model, [_cut(pixels, crop)])
        groups = [*_of_one_kind([_moved(one, *crop.box[:2]) for one in given])]
        found = [
            predictor.decode(image, predictor.pack(_prompts(some), crop.size), torch.zeros(len(some)).long(), None)
            for some in groups
        ]
        logits = torch.cat([some.logits for some in found])
        runs, boxes = full_runs(logits, predictor.model.preprocessing, crop, size, predictor.cleaning)
        ordered = [one for some in groups for one in some]
        iou = torch.cat([some.iou for some in found])[:, 0].float().cpu().clamp(0, 1)
        scores = iou * torch.tensor([one.score for one in ordered])
        return Instances(runs, boxes, scores, tuple(one.category for one in ordered))

    def _finished(self, found: Instances) -> Instances:
        """Return what is good enough, best first."""
        good = found.best_first(self.min_score)
        return good.disjoint() if self.predictor.cleaning.non_overlapping else good


def _cut(pixels: UInt8[Tensor, "3 h w"], crop: Crop) -> UInt8[Tensor, "3 a b"]:
    x0, y0, x1, y1 = crop.box
    return pixels[:, y0:y1, x0:x1]


def _of_one_kind(given: Sequence[GivenObject]) -> Iterator[Sequence[GivenObject]]:
    """Yield a few objects at a time, as they can be decoded together: boxes, then points."""
    for of_kind in ([one for one in given if one.box], [one for one in given if not one.box]):
        for start in range(0, len(of_kind), _OBJECTS_AT_ONCE):
            yield of_kind[start : start + _OBJECTS_AT_ONCE]


def _prompts(given: Sequence[GivenObject]) -> dict[str, Any]:
    if given[0].box is not None:
        return {"boxes": [one.box for one in given]}
    return {"points": [[*one.points] for one in given], "labels": [[*one.labels] for one in given]}


def _moved(given: GivenObject, x: int, y: int) -> GivenObject:
    box = given.box and (given.box[0] - x, given.box[1] - y, given.box[2] - x, given.box[3] - y)
    return replace(given, box=box, points=tuple((px - x, py - y) for px, py in given.points))


def _crop_for(given: GivenObject, crops: Sequence[Crop], size: tuple[int, int]) -> Crop:
    """Return the tile in whose middle an object is the most, or a crop of its own where none holds it whole."""
    if len(crops) == 1:
        return crops[0]
    height, width = size
    u0, v0, u1, v1 = given.extent
    u0, v0, u1, v1 = max(u0, 0), max(v0, 0), min(u1, width), min(v1, height)

    def room(crop: Crop) -> float:
        x0, y0, x1, y1 = crop.box
        ends = (u0 - x0, v0 - y0, x1 - u1, y1 - v1)
        at_edge = (x0 == 0, y0 == 0, x1 == width, y1 == height)  # there is nothing more to see
        return min(end if end < 0 or not edge else float("inf") for end, edge in zip(ends, at_edge, strict=True))

    best = max(crops, key=room)
    if room(best) >= 0:
        return best
    along, across = _MARGIN * (u1 - u0), _MARGIN * (v1 - v0)
    x0, y0, x1, y1 = int(u0 - along), int(v0 - across), int(u1 + along) + 1, int(v1 + across) + 1
    return Crop((max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)), 0)
