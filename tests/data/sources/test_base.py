"""What every data source has without saying so."""

import pytest
import torch

from sam_train.data.sources.base import ImageSubset
from sam_train.data.sources.splits import complete_splits, split_by_group
from sam_train.errors import InputError
from tests.data.samples import Squares


class Pairs(Squares):
    """Two images to a group."""

    def group(self, index):
        return str(index // 2)


def test_a_copy_under_another_name_is_recognized_by_its_pixels():
    first, later = Squares(7), Squares(7, first=2)
    assert first.identity(2) == later.identity(0) == later.identity(6)
    assert len({first.identity(index) for index in range(6)}) == 6


def test_groups_stay_together_and_subsets_answer_as_the_whole():
    whole = Pairs(20)
    splits = split_by_group(whole, [0.5, 0.3, 0.2], seed=1)
    assert sorted(name for images in splits.values() for name in images.ids) == sorted(whole.ids)
    groups = [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sum(map(len, groups)) == 10
    train = splits["train"]
    assert isinstance(train, ImageSubset)
    for index, row in enumerate(train.indices):
        ours, theirs = train.read(index), whole.read(row)
        assert ours.id == theirs.id
        assert torch.equal(ours.image, theirs.image)
        for answer in ("identity", "fingerprint", "group", "problems"):
            assert getattr(train, answer)(index) == getattr(whole, answer)(row)


def test_validation_images_stand_in_for_a_missing_test_and_nothing_for_validation():
    images = Squares(2)
    with pytest.warns(UserWarning, match="here: no images for the test"):
        assert complete_splits({"train": images, "val": images}, "here")["test"] is images
    with pytest.raises(InputError, match="here: no images for val"):
        complete_splits({"train": images}, "here")
