"""Procedural clips."""

import pickle
from itertools import pairwise

import pytest
import torch

from sam_train.data.sources.base import DataSource
from sam_train.data.world.film import ToyVideoSource
from sam_train.errors import InputError

SOURCE = ToyVideoSource(12, 2, 2, num_frames=6, image_size=64)


def test_a_frame_depends_on_seed_split_and_place_alone():
    one, other = SOURCE.splits()["train"], pickle.loads(pickle.dumps(ToyVideoSource(3, 1, 1, 6, 64).splits()["train"]))
    for frame in (4, 0):
        assert torch.equal(one.read_frame(2, frame).image, other.read_frame(2, frame).image)
        assert torch.equal(one.read_frame(2, frame).labels, other.read_frame(2, frame).labels)
    val = SOURCE.splits()["val"]
    assert not torch.equal(one.read_frame(0, 0).image, val.read_frame(0, 0).image)
    assert not torch.equal(one.read_frame(0, 0).image, one.read_frame(0, 3).image)
    assert isinstance(SOURCE, DataSource)


def test_objects_move_leave_and_come_back_under_one_number():
    clips = SOURCE.splits()["train"]
    left = returned = moved = 0
    for clip in range(12):
        frames = [clips.read_frame(clip, frame) for frame in range(6)]
        assert len(frames[0].value) > 0
        for value in frames[0].value.tolist():
            is_there = [value in frame.value.tolist() for frame in frames]
            places = [(frame.labels[0] == value).nonzero().float().mean(0) for frame in frames]
            moved += bool((places[0] - places[1]).norm() > 1)
            left += not all(is_there)
            returned += any(not now and later for now, later in pairwise(is_there))
    assert moved > 10
    assert left > 3
    assert returned > 0


def test_every_number_is_a_region_of_the_picture():
    clips = SOURCE.splits()["train"]
    for frame in range(6):
        sample = clips.read_frame(0, frame)
        assert (sample.areas() > 0).all()
        assert sample.labels.shape == (1, 64, 64)
        assert sample.image.shape == (3, 64, 64)


def test_sizes_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"data\.image_size=16"):
        ToyVideoSource(1, 1, 1, image_size=16)
    with pytest.raises(InputError, match=r"data\.num_frames=1"):
        ToyVideoSource(1, 1, 1, num_frames=1)
