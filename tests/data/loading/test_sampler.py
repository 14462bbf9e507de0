"""The stream of training images: the same on any number of devices, and from the middle."""

from bisect import bisect_right
from functools import partial
from itertools import accumulate, chain, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.data.loading.dataset import TrainDataset
from sam_train.data.loading.loader import ResumableLoader
from sam_train.data.loading.sampler import BatchTurns, TrainBatches
from sam_train.preprocessing import Preprocessing
from tests.data.samples import Squares


def stream(num_images, batch_size, rank=0, world_size=1, start=0, count=7):
    batches = TrainBatches(num_images, batch_size, seed=3, rank=rank, world_size=world_size)
    keys = []
    while len(keys) < count:
        batches.start = start + len(keys)
        keys.extend(islice(batches, count - len(keys)))
    return keys


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 4), world_size=st.integers(1, 3))
def test_devices_share_what_one_would_see(num_images, batch_size, world_size):
    whole = stream(num_images, batch_size * world_size)
    shares = [stream(num_images, batch_size, rank, world_size) for rank in range(world_size)]
    assert whole == [list(chain(*parts)) for parts in zip(*shares, strict=True)]


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 4), start=st.integers(0, 30))
def test_the_middle_of_the_stream_is_the_stream(num_images, batch_size, start):
    assert stream(num_images, batch_size, count=start + 5)[start:] == stream(
        num_images, batch_size, start=start, count=5
    )


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 4), limit=st.integers(1, 5))
def test_epochs_left_early_make_the_same_stream(num_images, batch_size, limit):
    batches = TrainBatches(num_images, batch_size, seed=3, rank=0, world_size=1)
    limit = min(limit, len(batches))
    seen = []
    for _ in range(4):
        batches.start = len(seen)
        seen += islice(batches, limit)
    assert seen == stream(num_images, batch_size, count=4 * limit)


@given(num_images=st.integers(1, 20), batch_size=st.integers(1, 4))
def test_an_epoch_shows_every_image(num_images, batch_size):
    batches = list(TrainBatches(num_images, batch_size, seed=0, rank=0, world_size=1))
    assert len(batches) == len(TrainBatches(num_images, batch_size, seed=0, rank=0, world_size=1))
    assert {index for batch in batches for _, index in batch} == set(range(num_images))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_where_its_state_was_taken(num_workers):
    def loader():
        dataset = TrainDataset(Squares(), Preprocessing(64), None, 4, 4, 0)
        batches = TrainBatches(len(dataset), 2, seed=0, rank=0, world_size=1)
        return ResumableLoader(dataset, batches, num_workers=num_workers, persistent_workers=num_workers > 0)

    uninterrupted = loader()
    seen = [batch.ids for _ in range(3) for batch in uninterrupted]
    interrupted = loader()
    for _, _batch in zip(range(4), (batch for _ in range(2) for batch in interrupted), strict=False):
        state = interrupted.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    rest = [batch.ids for _ in range(2) for batch in resumed]
    assert seen[state["seen"] :] == rest[: len(seen) - state["seen"]]
    assert torch.tensor(state["seen"]) == 4


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 6), st.data(), st.integers(0, 9))
def test_batches_of_several_sources_are_of_one_each(sizes, at_once, data, seed):
    some = st.lists(st.floats(0.1, 10), min_size=len(sizes), max_size=len(sizes))
    weights = data.draw(st.one_of(st.just([]), some))
    orders = [partial(torch.randperm, size) for size in sizes]
    turns = BatchTurns(sizes, orders, at_once, weights)
    order = turns(generator=torch.Generator().manual_seed(seed))
    assert len(order) == turns.num_images
    assert torch.equal(order, turns(generator=torch.Generator().manual_seed(seed)))
    starts = [0, *accumulate(sizes)]
    for batch in order.view(-1, at_once).tolist():
        assert len({bisect_right(starts, index) for index in batch}) == 1
        assert all(0 <= index < starts[-1] for index in batch)
    if not weights:
        assert set(order.tolist()) == set(range(sum(sizes)))  # every image is shown
        assert len(order) == sum(-(-size // at_once) * at_once for size in sizes)
