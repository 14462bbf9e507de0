"""Large images tile by tile: every pixel is looked at, and objects are whole again."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from sam_train.data.sources.prompt_files import GivenObject
from sam_train.inference.finder import Finder, Tiling
from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.mask_generator import Everything
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from sam_train.inference.run_lengths import RunLengths
from sam_train.inference.tiling import stitch, tiles
from tests.checkpoints.tiny import SAM2_CONFIG, build

SIZE = (200, 260)


@pytest.mark.parametrize("size", [(200, 260), (64, 64), (64, 500), (63, 65), (10, 10)])
def test_tiles_cover_an_image_and_overlap(size):
    covered = np.zeros(size, int)
    found = tiles(size, 64, 20)
    for crop in found:
        x0, y0, x1, y1 = crop.box
        assert x1 - x0 <= 64
        assert y1 - y0 <= 64
        covered[y0:y1, x0:x1] += 1
    assert covered.min() == 1
    columns = sorted({crop.box[0] for crop in found})
    assert all(right - left <= 64 - 20 for left, right in pairwise(columns))


def squares(*boxes):
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def seen_in(crop, masks):
    """What a perfect model finds in a tile."""
    x0, y0, x1, y1 = crop.box
    parts = masks[:, y0:y1, x0:x1]
    parts = parts[parts.flatten(1).any(1)]
    scores = torch.linspace(0.9, 0.8, len(parts))
    return Instances(RunLengths.of(parts.contiguous()), mask_boxes(parts), scores, (None,) * len(parts))


def test_objects_are_found_once_and_whole_though_tiles_cut_them():
    truth = squares((10, 10, 40, 30), (90, 20, 130, 60), (50, 80, 250, 170), (0, 180, 260, 200))
    found = stitch([(crop, seen_in(crop, truth)) for crop in tiles(SIZE, 100, 40)], SIZE, 0.5)
    assert sorted(found.masks.areas().tolist()) == sorted(truth.sum((1, 2)).tolist())
    together = {tuple(box) for box in found.boxes.tolist()}
    assert together == {tuple(box) for box in mask_boxes(truth).tolist()}
    for mask in found.masks.masks():
        assert any(torch.equal(mask, true) for true in truth)


def test_a_piece_without_its_counterpart_is_dropped():
    truth = squares((10, 10, 90, 30))
    found = [
        (crop, seen_in(crop, truth if index == 0 else truth[:0])) for index, crop in enumerate(tiles(SIZE, 60, 20))
    ]
    assert len(stitch(found, SIZE, 0.5)) == 0
    assert len(stitch([(crop, seen_in(crop, truth[:0])) for crop in tiles(SIZE, 60, 20)], SIZE, 0.5)) == 0


def test_pieces_are_put_together_where_they_are_called_the_same():
    truth = squares((30, 80, 170, 130))  # whole in no tile
    crops = tiles(SIZE, 100, 40)
    seen = [(crop, seen_in(crop, truth)) for crop in crops]
    named = [(crop, replace(one, categories=("a",) * len(one))) for crop, one in seen]
    assert stitch(named, SIZE, 0.5).categories == ("a",)
    assert stitch(named, SIZE, 0.5).masks.areas().tolist() == truth.sum((1, 2)).tolist()
    each = [(crop, replace(one, categories=(str(crop.box),) * len(one))) for crop, one in seen]
    assert len(stitch(each, SIZE, 0.5)) == 0


@pytest.fixture(scope="module")
def finder():
    grid = Everything(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0.05)
    return Finder(Predictor(build(SAM2_CONFIG)), grid, Tiling(100, 30))


def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *SIZE), np.uint8))


def test_a_prompted_object_is_found_in_a_tile_that_holds_it(finder):
    """Its mask is that of the tile alone, in the frame of the image."""
    x0, y0, x1, y1 = box = (160.0, 100.0, 200.0, 150.0)
    found = finder.prompted(pixels(), [GivenObject(box, category="cell")])
    assert found.categories == ("cell",)
    alone = []
    for crop in tiles(SIZE, 100, 30):
        left, top, right, bottom = crop.box
        if left <= x0 and top <= y0 and right >= x1 and bottom >= y1:
            image = finder.predictor.encode([pixels()[:, top:bottom, left:right]])
            mask = torch.zeros(SIZE, dtype=torch.bool)
            moved = [x0 - left, y0 - top, x1 - left, y1 - top]
            mask[top:bottom, left:right] = finder.predictor.predict(boxes=moved, image=image).masks[0, 0]
            alone.append(mask)
    assert any(torch.equal(found.masks.masks()[0], mask) for mask in alone)


def test_an_object_larger_than_a_tile_has_a_crop_of_its_own(finder):
    found = finder.prompted(pixels(), [GivenObject((5.0, 5, 250, 190)), GivenObject(points=((20.0, 20),), labels=(1,))])
    assert len(found) <= 2
    assert found.masks.size == SIZE


def test_no_pixel_is_of_two_prompted_objects_however_many_there_are(finder):
    """Also of such that are decoded one after the other, by different prompts or in different tiles."""
    cleaning = Cleaning(threshold=-0.5, non_overlapping=True)
    given = [GivenObject((x, y, x + 60.0, y + 50.0)) for y in range(0, 150, 30) for x in range(0, 200, 25)]
    given += [GivenObject(points=((100.0, 100.0),), labels=(1,))]
    loose = Finder(Predictor(finder.predictor.model, replace(cleaning, non_overlapping=False)))
    free = loose.prompted(pixels(), given)
    assert len(given) > 32
    assert int(free.masks.masks().sum(0).max()) > 1
    for tiling in (Tiling(), finder.tiling):
        apart = Finder(Predictor(finder.predictor.model, cleaning), tiling=tiling).prompted(pixels(), given)
        assert int(apart.masks.masks().sum(0).max()) == 1
        assert apart.boxes.tolist() == mask_boxes(apart.masks.masks()).tolist()
        if tiling.side is None:
            assert torch.equal(apart.masks.masks().any(0), free.masks.masks().any(0))


def test_pixels_that_a_better_object_has_are_its_alone():
    masks = squares((0, 0, 60, 60), (40, 40, 100, 100), (45, 45, 55, 55))
    found = Instances(RunLengths.of(masks), mask_boxes(masks), torch.tensor([0.5, 0.9, 0.1]), ("a", "b", "c"))
    apart = found.disjoint()
    assert apart.categories == ("b", "a")
    assert torch.equal(apart.masks.masks(), torch.stack([masks[1], masks[0] & ~masks[1]]))
    assert apart.boxes.tolist() == [[40, 40, 99, 99], [0, 0, 59, 59]]
    assert len(Instances.cat([], SIZE).disjoint()) == 0


def test_it_is_shown_which_tile_is_looked_at(finder):
    seen = []

    class Watched(Progress):
        def advance(self, task_id, advance=1):
            super().advance(task_id, advance)
            (task,) = self.tasks
            seen.append((task.description, task.completed, task.total))

    watching = Finder(finder.predictor, finder.generator.settings, finder.tiling)
    watching.progress = Watched(console=Console(file=io.StringIO()))
    watching.everything(pixels())
    number = len(tiles(SIZE, 100, 30))
    assert seen == [("tiles", one, number) for one in range(1, number + 1)]
    assert not watching.progress.tasks
    watching.everything(pixels()[:, :50, :50])
    assert len(seen) == number


def test_everything_in_a_large_image(finder):
    found = finder.everything(pixels())
    assert found.size == SIZE
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    labels = found.label_image()
    assert labels.shape == SIZE
    assert labels.max() <= len(found)
