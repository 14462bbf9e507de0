"""What is neither object nor background stays so from the sample to the batch."""

from dataclasses import replace

import pytest
import torch

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.collate import collate, to_batch
from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.sources.base import all_objects
from sam_train.preprocessing import Preprocessing
from tests.data.samples import Squares

SAM = Preprocessing(image_size=64)
SAM2 = Preprocessing(image_size=64, resize="square")
WILD = Augmentation(flip=0.5, zoom=(0.5, 2), rotate=90, shear=10, color=0)


def with_ignored(sample):
    """What has the number 1 is ignored instead."""
    return replace(sample, ignore=sample.labels[0] == 1).keep(sample.value != 1)


@pytest.mark.parametrize("preprocessing", [SAM, SAM2])
@pytest.mark.parametrize("seed", range(4))
def test_ignored_pixels_move_with_the_labels(preprocessing, seed):
    sample = with_ignored(Squares().read(4))
    for seen in (resize_sample(sample, preprocessing), WILD(sample, preprocessing, seed)):
        assert torch.equal(seen.ignore, seen.labels[0] == 1)
        batch = to_batch(seen, preprocessing, sample.size)
        assert torch.equal(batch.ignore[0, : seen.size[0], : seen.size[1]], seen.ignore)
        assert batch.ignore.sum() == seen.ignore.sum()  # nothing of the padding
        assert not (batch.masks & batch.ignore).any()


def test_the_frame_beyond_a_smaller_image_is_plain_background():
    sample = replace(Squares().read(1), ignore=torch.ones(60, 90, dtype=torch.bool))
    seen = Augmentation(flip=0, zoom=(0.5, 0.5), rotate=0, color=0)(sample, SAM, seed=0)
    assert 0.2 < seen.ignore.float().mean() < 0.3


def test_batches_carry_what_is_ignored_only_where_an_image_has_any():
    samples = [
        Squares().read(2),
        with_ignored(Squares().read(3)),
        replace(Squares().read(1), ignore=torch.zeros(60, 90) > 0),
    ]
    batches = [to_batch(resize_sample(sample, SAM), SAM, sample.size) for sample in samples]
    assert [batch.ignore is None for batch in batches] == [True, False, True]
    assert collate([batches[0], batches[2]]).ignore is None
    packed = collate(batches)
    assert [packed.image(index).ignore.any().item() for index in range(3)] == [False, True, False]
    for order in ([2, 1, 0], [1, 0, 2]):
        assert torch.equal(collate([batches[index] for index in order]).ignore, packed.ignore[order])


class Crowds(Squares):
    """Of each image's squares the first is a crowd, which reaches over a part of the second."""

    def read(self, index, choose=all_objects, with_image=True):
        sample = super().read(index, choose, with_image)
        labels = torch.cat([torch.where(sample.labels == 1, 0, sample.labels), torch.zeros_like(sample.labels)])
        labels[1, 5:21, 5:40] = 1
        return replace(sample, labels=labels, plane=(sample.value == 1).long(), crowd=sample.value == 1)


def test_crowds_never_train():
    dataset = TrainDataset(Crowds(), SAM, None, max_objects=8, min_area=4, seed=0)
    batch = dataset[(0, 4)]
    assert batch.num_objects == 3
    assert batch.ignore is None
    squares = TrainDataset(Squares(), SAM, None, max_objects=8, min_area=4, seed=0)[(0, 4)]
    assert torch.equal(batch.masks, squares.masks[1:])
    assert dataset[(0, 1)].ids != ("squares/1",)  # nothing but a crowd: another image takes its place


def test_crowds_are_ignored_in_evaluation_but_for_the_pixels_of_others():
    batch = EvalDataset(Crowds(), SAM, 4)[4]
    (original,) = batch.originals
    assert batch.num_objects == len(original.value) == 3
    assert batch.num_too_small == (0,)
    expected = torch.zeros(60, 90, dtype=torch.bool)
    expected[5:21, 5:40] = True
    expected &= ~original.masks().any(dim=0)
    assert torch.equal(original.ignore, expected)
    assert torch.equal(batch.ignore[0, :43], resize_sample(original, SAM).ignore)
    assert EvalDataset(Crowds(), SAM, 4)[0].originals[0].ignore is None
