"""Objects by a head: peaks and boxes are those of the maps, doubles are left out, and a trained head finds objects."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from sam_train.centers import CenterMaps
from sam_train.data.loading.dataset import TrainDataset
from sam_train.errors import InputError
from sam_train.inference.center_finder import CenterFinder, peaks, propose
from sam_train.inference.finder import Finder, Tiling
from sam_train.inference.instances import Instances
from sam_train.inference.mask_filters import mask_boxes
from sam_train.inference.predictor import Predictor
from sam_train.inference.run_lengths import RunLengths
from sam_train.runs.run import base_model
from sam_train.runs.settings import ModelChoice
from sam_train.tasks.center_training import CenterLearner, CenterTraining, new_head
from tests.third_party.discs import DiscImages

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
NAMES = ("small disc", "large disc")


def test_peaks_are_the_cells_that_no_neighbor_exceeds():
    heat = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(0))
    values, places = peaks(heat, 1000, 0.3)
    highest = np.stack([ndimage.maximum_filter(one, 3, mode="constant", cval=-1) for one in heat.numpy()])
    expected = np.argwhere((heat.numpy() == highest) & (heat.numpy() >= 0.3))
    assert sorted(places.tolist()) == sorted(expected.tolist())
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert torch.equal(values, heat[tuple(places.T)])
    assert torch.equal(peaks(heat, 3, 0.3)[1], places[:3])


def test_centers_that_are_as_sure_as_can_be_are_one_peak_each():
    heat = torch.full((1, 1, 16, 16), 30.0)
    heat[0, 0, 5, 7] = 31
    nothing = torch.zeros(1, 2, 16, 16)
    assert len(propose(CenterMaps(heat, nothing, nothing), 64, (64, 64)).boxes) < 16 * 16
    heat[0, 0] -= torch.arange(16.0)[:, None]
    heat[0, 0, 5, 7] = 40
    found = propose(CenterMaps(heat - torch.arange(16.0), nothing, nothing), 64, (64, 64))
    assert len(found.boxes) == 2


def test_boxes_are_those_that_the_maps_were_made_of():
    boxes = torch.tensor([[4.0, 8, 20, 40], [30, 10, 60, 30], [50, 50, 70, 64]])
    extent, center = (boxes[:, 2:] - boxes[:, :2]) / 4, (boxes[:, :2] + boxes[:, 2:]) / 8
    maps = CenterMaps(torch.full((1, 2, 16, 16), -9.0), torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16))
    for index, (column, row) in enumerate(center.long().tolist()):
        maps.heat[0, index % 2, row, column] = 3.0 - index
        maps.size[0, :, row, column] = extent[index].log()
        maps.offset[0, :, row, column] = center[index] - torch.tensor([column, row])
    found = propose(maps, 64, (64, 64))
    expected = torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1).clamp(max=63)
    assert torch.allclose(found.boxes, expected, atol=1e-4)
    assert found.category.tolist() == [0, 1, 0]
    assert torch.allclose(found.scores, torch.tensor([3.0, 2, 1]).sigmoid())
    assert len(propose(maps, 64, (45, 64)).boxes) == 2  # the center of the third is padding


def test_of_two_masks_alike_the_better_one_stays_whatever_they_are_called():
    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[0, :10, :10] = masks[1, :10, :9] = masks[2, 12:, 12:] = True
    found = Instances(RunLengths.of(masks), mask_boxes(masks), torch.tensor([0.5, 0.6, 0.2]), ("a", "b", "a"))
    kept = found.distinct(0.8)
    assert kept.categories == ("b", "a")
    assert kept.masks.areas().tolist() == [90, 64]
    assert len(found.distinct(0.95)) == 3
    assert len(Instances.cat([], (5, 5)).distinct(0.5)) == 0


@given(st.lists(st.tuples(*[st.integers(0, 11)] * 4, st.integers(1, 4)), max_size=12), st.floats(0, 1))
def test_doubles_are_left_out_as_each_compared_with_each_says(rectangles, threshold):
    """Wide ones among narrow ones, of which only those nearby are looked at."""
    masks = torch.zeros(len(rectangles), 12, 12, dtype=torch.bool)
    for mask, (x, y, x1, y1, _) in zip(masks, rectangles, strict=True):
        mask[min(y, y1) : max(y, y1) + 1, min(x, x1) : max(x, x1) + 1] = True
    scores = torch.tensor([score / 4 for *_, score in rectangles])
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        ious = [int((masks[index] & masks[k]).sum()) / int((masks[index] | masks[k]).sum()) for k in kept]
        if max(ious, default=0) <= threshold:
            kept.append(index)
    found = Instances(RunLengths.of(masks), mask_boxes(masks), scores, tuple(map(str, range(len(masks)))))
    assert found.distinct(threshold).categories == tuple(map(str, kept))


class NamedDiscs(DiscImages):
    categories = NAMES

    def read(self, *arguments, **options):
        sample = super().read(*arguments, **options)
        sample.category = tuple(NAMES[value - 1] for value in sample.value.tolist())
        return sample


@pytest.fixture(scope="module")
def finder():
    """A head that has seen the same discs over and over."""
    model = base_model(ModelChoice(image_size=64), 0).eval().requires_grad_(False)
    learner = CenterLearner(new_head(model, NAMES, 0), CenterTraining(), 64)
    images = TrainDataset(NamedDiscs(4), model.preprocessing, None, 1, 0, 0, with_boxes=True)
    batches = [images[0, index] for index in range(4)]
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-3)
    with torch.no_grad():
        features = [model.encode_image(model.preprocessing.normalize(one.images, one.valid_size)) for one in batches]
    for step in range(60):
        loss = learner.loss.total(learner.terms(features[step % 4], batches[step % 4].everything))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Finder(Predictor(model), center=CenterFinder(Predictor(model), learner.head, NAMES), min_score=0.15)


def test_a_head_finds_what_it_was_trained_on_by_name(finder):
    found, number = 0, 0
    for index in range(4):
        sample = NamedDiscs(4).read(index)
        instances = finder.find(sample.image)
        number += len(sample.value)
        for mask, name in zip(sample.each_mask(), sample.category, strict=True):
            of_name = [
                other
                for other, called in zip(instances.masks.masks(), instances.categories, strict=True)
                if called == name
            ]
            found += any((mask & other).sum() / (mask | other).sum() > 0.5 for other in of_name)
        assert len(instances) <= len(sample.value) + 1
    assert found > 0.9 * number


def test_in_a_tile_the_same_is_found_as_in_an_image_of_its_own(finder):
    image = NamedDiscs(4).read(0).image
    wide = torch.cat([image, image[:, :, :1].expand(3, 64, 64)], dim=2)
    tiled = Finder(finder.predictor, tiling=Tiling(64, 0), min_score=0.15, center=finder.center)
    found, alone = tiled.find(wide), finder.find(image)
    assert found.size == (64, 128)
    assert found.categories == alone.categories
    assert torch.equal(found.masks.masks()[:, :, :64], alone.masks.masks())


def test_without_a_head_it_is_said_what_to_do(finder):
    with pytest.raises(InputError, match="prompter=center"):
        Finder(finder.predictor).find(torch.zeros(3, 8, 8, dtype=torch.uint8))
