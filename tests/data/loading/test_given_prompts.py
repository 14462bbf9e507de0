"""Points and boxes of the data go where their pixels go."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import collate, to_batch
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.loading.views import PLAIN, Views
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Batch, PointLabel, Prompts, Sample
from tests.data.samples import Squares

SAM = Preprocessing(image_size=64)
FRAMES = [SAM, Preprocessing(image_size=64, resize="square"), Preprocessing(image_size=256)]
WILD = Augmentation(flip=0.5, zoom=(0.5, 3), rotate=180, shear=15, color=0)
OBJECT, FIRST, SECOND = PointLabel.OBJECT, PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT


def sample_with(points, labels, size=(60, 90), name="a") -> Sample:
    """An image whose objects are the pixels at the first point of each row."""
    prompts = Prompts(torch.tensor(points, dtype=torch.float), torch.tensor(labels))
    planes = torch.zeros(1, *size, dtype=torch.int32)
    for value, (x, y) in enumerate(prompts.points[:, 0].long().tolist(), start=1):
        planes[0, y, x] = value
    numbers = torch.arange(1, len(prompts.points) + 1)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    return Sample(name, image, planes, torch.zeros_like(numbers), numbers, prompts=prompts)


def on_or_beside(point: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether the pixel at a point, or one that touches it, belongs to a mask."""
    x, y = point.round().long().tolist()
    return bool(mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any())


@pytest.mark.parametrize("preprocessing", FRAMES)
@given(x=st.integers(0, 89), y=st.integers(0, 59), seed=st.integers(0, 10_000))
def test_a_point_stays_on_the_only_pixel_of_its_object(preprocessing, x, y, seed):
    seen = WILD(sample_with([[[x, y]]], [[OBJECT]]), preprocessing, seed)
    (mask,) = seen.masks()
    if mask.any() and seen.prompts.labels[0, 0] == OBJECT:
        assert on_or_beside(seen.prompts.points[0, 0], mask)


@given(x=st.integers(-40, 130), y=st.integers(-40, 100), seed=st.integers(0, 10_000))
def test_a_point_is_empty_if_and_only_if_it_is_outside_the_frame(x, y, seed):
    sample = replace(sample_with([[[0, 0]]], [[OBJECT]]))
    sample = replace(sample, prompts=replace(sample.prompts, points=torch.tensor([[[x, y]]]).float()))
    for seen in (WILD(sample, SAM, seed), resize_sample(sample, SAM)):
        (at_x, at_y), (height, width) = seen.prompts.points[0, 0].tolist(), seen.size
        inside = -1 < at_x < width and -1 < at_y < height
        assert (seen.prompts.labels[0, 0] == OBJECT) == inside


def test_without_augmentation_prompts_are_the_official_predictors():
    sample = sample_with([[[10, 20], [30, 40]], [[89, 59], [0, 0]]], [[FIRST, SECOND], [OBJECT, PointLabel.EMPTY]])
    for preprocessing in FRAMES:
        prompts = resize_sample(sample, preprocessing).prompts
        assert torch.equal(prompts.points, preprocessing.scale_points(sample.prompts.points, sample.size))
        assert torch.equal(prompts.labels, sample.prompts.labels)


def test_an_augmentation_that_changes_nothing_gives_the_plain_prompts():
    nothing = Augmentation(flip=0, zoom=(1, 1), rotate=0, shear=0, color=0)
    sample = sample_with([[[10, 20], [30, 40]], [[7, 3], [89, 59]]], [[FIRST, SECOND], [OBJECT, OBJECT]])
    plain, ours = resize_sample(sample, SAM).prompts, nothing(sample, SAM, seed=0).prompts
    torch.testing.assert_close(ours.points, plain.points)
    assert torch.equal(ours.labels, plain.labels)


@given(box=st.tuples(*[st.integers(0, 59)] * 4), seed=st.integers(0, 10_000))
def test_a_box_is_the_one_around_its_four_corners_cut_at_the_frame(box, seed):
    x0, x1, y0, y1 = min(box[:2]), max(box[:2]), min(box[2:]), max(box[2:])
    four = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    as_box = WILD(sample_with([[[x0, y0], [x1, y1]]], [[FIRST, SECOND]]), SAM, seed)
    points = WILD(sample_with([four], [[OBJECT] * 4]), SAM, seed).prompts.points[0]
    frame = torch.tensor(as_box.size[::-1])
    low, high = points.amin(0), points.amax(0)
    if (low >= frame).any() or (high <= -1).any():
        assert (as_box.prompts.labels == PointLabel.EMPTY).all()
    else:
        expected = torch.stack([low, high]).clamp(min=0).minimum(frame)
        torch.testing.assert_close(as_box.prompts.points[0], expected, atol=1e-3, rtol=0)
        assert as_box.prompts.labels.tolist() == [[FIRST, SECOND]]


def test_prompts_change_neither_pixels_nor_masks_of_a_view():
    plain = Squares().read(4)
    given_too = replace(plain, prompts=Prompts(torch.rand(4, 2, 2) * 50, torch.ones(4, 2, dtype=torch.long)))
    for seed in range(5):
        ours, theirs = WILD(given_too, SAM, seed), WILD(plain, SAM, seed)
        assert torch.equal(ours.image, theirs.image)
        assert torch.equal(ours.labels, theirs.labels)


class WithPrompts(Squares):
    """Image i has one point, a box or nothing beside each of its squares."""

    def read(self, index, choose=None, with_image=True):
        sample = super().read(index, lambda shares: torch.arange(len(shares)), with_image)
        at = torch.stack([5 + 28 * ((sample.value - 1) % 3), 5 + 25 * ((sample.value - 1) // 3)], dim=1)[
            :, None
        ].float()
        if index % 3 == 0 or not len(at):
            return sample
        if index % 3 == 1:
            return replace(sample, prompts=Prompts(at + 3, torch.full((len(at), 1), OBJECT)))
        box = torch.tensor([[FIRST, SECOND]]).expand(len(at), 2)
        return replace(sample, prompts=Prompts(torch.cat([at, at + 15], dim=1), box))


def rows_of(batch: Batch) -> dict[tuple[str, int], list]:
    """What is given of each object, by its image and its place there."""
    rows = {}
    for index, image in enumerate(batch.object_image.tolist()):
        place = int((batch.object_image[:index] == image).sum())
        labels = batch.given.labels[index]
        kept = labels != PointLabel.EMPTY
        rows[batch.ids[image], place] = [batch.given.points[index][kept].tolist(), labels[kept].tolist()]
    return rows


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_packing_order_does_not_matter(order):
    source = WithPrompts(6)
    views = Views(source, SAM)
    parts = [to_batch(views.vary(source.read(index), PLAIN), SAM, (60, 90)) for index in range(6)]
    ordered = collate([parts[index] for index in order])
    assert ordered.given.labels.shape == (ordered.num_objects, 2)
    assert rows_of(ordered) == rows_of(collate(parts))
    for index, name in enumerate(ordered.ids):
        alone = ordered.image(index)
        assert rows_of(alone) == {key: row for key, row in rows_of(ordered).items() if key[0] == name}


def test_batches_without_given_prompts_carry_none():
    empty = replace(Squares().read(2), prompts=Prompts(torch.zeros(2, 1, 2), torch.full((2, 1), PointLabel.EMPTY)))
    batches = [to_batch(resize_sample(sample, SAM), SAM, (60, 90)) for sample in (Squares().read(3), empty)]
    assert [batch.given for batch in batches] == [None, None]
    assert collate(batches).given is None
