"""The embedding cache: what is read is what was computed, whatever happened to the folder or the data meanwhile."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from sam_train.data.cache.embedding_cache import EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.loading.share import Share
from sam_train.data.loading.views import Views
from sam_train.data.sources.folder import FolderSource
from sam_train.data.world import ToySource
from sam_train.errors import InputError
from sam_train.structures import EncoderState
from tests.data.cache.embeddings import SAM, encode, plain_views
from tests.data.samples import Squares
from tests.data.sources.folders import make_folder, picture, save, two_objects


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "embeddings", "encoder")


class Counting:
    """The encoder, and how many images it saw."""

    def __init__(self):
        self.count = 0

    def __call__(self, batch):
        self.count += len(batch.ids)
        return encode(batch)


def num_encoded(cache, *views):
    counting = Counting()
    fill(cache, views, counting, batch_size=2)
    return counting.count


def train_dataset(cache=None, zoom=(0.7, 1.5), min_area=4):
    return TrainDataset(Squares(), SAM, Augmentation(zoom=zoom), 2, min_area, 0, cache)


def entries(cache):
    return sorted(path for path in cache.place.glob("*/*.safetensors") if not path.name.startswith("."))


def assert_same_but_for_images(cached, computed, **tolerance):
    assert cached.images is None
    expected = encode(computed)
    torch.testing.assert_close(cached.features.embedding.float(), expected.embedding, **tolerance)
    for level, other in zip(cached.features.high_res, expected.high_res, strict=True):
        torch.testing.assert_close(level.float(), other, **tolerance)
    for name in ("masks", "object_image", "valid_size", "original_size", "draws"):
        assert torch.equal(getattr(cached, name), getattr(computed, name)), name
    assert cached.ids == computed.ids


@pytest.mark.parametrize(("zoom", "min_area"), [((0.7, 1.5), 4), ((40, 50), 4), ((0.7, 1.5), 10_000)])
def test_cached_views_are_those_that_would_have_been_computed(tmp_path, zoom, min_area):
    cache = EmbeddingCache(tmp_path, "encoder", "float32", views=3)
    cached, computed = train_dataset(cache, zoom, min_area), train_dataset(None, zoom, min_area)
    computed.views.number = 3
    fill(cache, [cached.views], encode, batch_size=4)
    assert len(entries(cache)) == 5 * 3
    for epoch in range(7):
        for index in range(5):
            assert_same_but_for_images(cached[(epoch, index)], computed[(epoch, index)], atol=1e-6, rtol=0)


def test_the_first_view_is_plain_and_validation_shares_it(cache):
    cached = train_dataset(cache)
    fill(cache, [cached.views], encode)
    validation = EvalDataset(Squares(), SAM, 4, cache)
    assert num_encoded(cache, validation.views) == 0
    item = validation[4]
    torch.testing.assert_close(item.features.embedding.float(), encode(item).embedding, atol=0, rtol=2**-8)
    assert torch.equal(item.features.embedding, cached[(6, 4)].features.embedding)
    assert item.features.embedding.dtype == torch.bfloat16


def test_nothing_is_computed_twice(cache):
    assert num_encoded(cache, plain_views(3)) == 3 + 1  # and an empty one, for the shapes
    assert num_encoded(cache, plain_views(3)) == 0
    assert num_encoded(cache, plain_views(5)) == 2


def test_processes_share_the_work_without_overlap(cache):
    for rank in range(2):
        fill(cache, [plain_views(5)], encode, share=OneOf(rank, 2))
        assert len(entries(cache)) == (3, 5)[rank]


class OneOf(Share):
    """A process that does not wait for the others."""

    def total(self, count):
        return count


def test_damaged_entries_are_recomputed_and_temporary_files_are_not_read(cache):
    views = plain_views(5)
    fill(cache, [views], encode)
    _, torn, empty, garbage, misshapen = entries(cache)
    good = {path: path.read_bytes() for path in entries(cache)}
    torn.write_bytes(good[torn][:-7])
    empty.write_bytes(b"")
    garbage.write_bytes(b"\xff" * len(good[garbage]))
    small = encode(views[(-1, 4)])
    cache.write("elsewhere", type(small)(small.embedding[..., :1], small.high_res), torch.tensor([60, 90]))
    cache.path("elsewhere").replace(misshapen)
    (torn.parent / ".0123").write_bytes(good[torn][:50])
    assert num_encoded(cache, views) == 4
    assert {path: path.read_bytes() for path in entries(cache)} == good


def test_an_unreadable_layout_is_recomputed(cache):
    fill(cache, [plain_views(2)], encode)
    (cache.place / "layout.json").write_text("{")
    fill(cache, [plain_views(2)], encode)
    assert num_encoded(cache, plain_views(2)) == 0


def test_two_writers_leave_whole_entries_when_one_is_killed(tmp_path):
    cache, views = EmbeddingCache(tmp_path, "encoder"), plain_views(30)
    command = [sys.executable, "-m", "tests.data.cache.embeddings", str(tmp_path), "5000"]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL) as other:
        while not entries(cache) and other.poll() is None:
            time.sleep(0.01)
        fill(cache, [views], encode)
        assert other.poll() is None
        other.kill()
    assert num_encoded(cache, views) == 0
    for index in range(30):
        features = cache.read(views.name(index, -1), (60, 90))
        torch.testing.assert_close(features.embedding.float(), encode(views[(-1, index)]).embedding, atol=0, rtol=2**-8)
    whole = [cache.holds(plain_views(5000).name(index, -1), cache.layout()) for index in range(5000)]
    assert sum(whole) == len(entries(cache))


def test_a_replaced_image_is_encoded_again(cache, tmp_path):
    root = make_folder(tmp_path / "data", {name: two_objects() for name in "abcdef"})
    views = [Views(FolderSource(str(root), split=(0, 0, 1)).splits()["test"], SAM) for _ in range(2)]
    fill(cache, views[:1], encode)
    assert num_encoded(cache, views[1]) == 0
    save(root / "images" / "c.png", picture(seed=99))
    assert num_encoded(cache, views[1]) == 1


def test_another_image_of_the_same_name_is_another_entry():
    def name(**options):
        data = {"domain": "cells", "num_train": 2, "num_val": 0, "num_test": 0, "image_size": 64, **options}
        return Views(ToySource(**data).splits()["train"], SAM).name(1, -1)

    assert name() == name(num_train=5)
    assert len({name(), name(seed=1), name(image_size=128), name(domain="tissue")}) == 4


def test_augmented_views_depend_on_augmentation_and_seed_and_plain_ones_do_not():
    source = Squares()
    first = Views(source, SAM, Augmentation(), 0, 3)
    for second in (Views(source, SAM, Augmentation(flip=0), 0, 3), Views(source, SAM, Augmentation(), 1, 3)):
        assert first.name(2, -1) == second.name(2, -1)
        assert len({first.name(2, 0), first.name(2, 1), second.name(2, 0), second.name(2, 1)}) == 4


def test_the_state_of_an_encoder_comes_back_map_for_map(cache):
    maps = tuple(torch.rand(1, side, side, 3).bfloat16() for side in (8, 4, 2))
    layout = cache.set_layout(EncoderState(maps, 5))
    cache.write("one", EncoderState(maps, 5), torch.tensor([7, 9]))
    assert cache.holds("one", layout)
    state = cache.read("one", (7, 9))
    assert isinstance(state, EncoderState)
    assert state.num_steps == 5
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state.maps, maps, strict=True))
    both = EncoderState.cat([state, state])
    assert [tuple(map_.shape) for map_ in both.maps] == [(2, 8, 8, 3), (2, 4, 4, 3), (2, 2, 2, 3)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(both.image(1).maps, maps, strict=True))


def test_a_disk_too_small_is_refused_before_anything_is_computed(cache, monkeypatch):
    fill(cache, [plain_views(2)], encode)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 10, 10))
    assert num_encoded(cache, plain_views(2)) == 0  # nothing to do, nothing to refuse
    counting = Counting()
    with pytest.raises(InputError, match=r"0\.0 GB free; name a folder on a larger disk"):
        fill(cache, [plain_views(9)], counting)
    assert counting.count == 0
    assert len(entries(cache)) == 2


def test_an_entry_that_goes_missing_in_training_says_what_to_do(cache):
    dataset = train_dataset(cache)
    fill(cache, [dataset.views], encode)
    cache.path(dataset.views.name(4, -1)).unlink()
    with pytest.raises(InputError, match=r"squares/4.* cannot be read now.*[Ss]tart again"):
        dataset[(0, 4)]


def test_a_mask_of_another_size_is_named_although_the_image_is_not_read(cache, tmp_path):
    root = make_folder(tmp_path, {name: two_objects() for name in "abcdef"})
    source = FolderSource(str(root), split=(0, 0, 1)).splits()["test"]
    dataset = TrainDataset(source, SAM, None, 2, 1, 0, cache)
    fill(cache, [dataset.views], encode)
    assert dataset[(0, 2)].num_objects == 2
    save(root / "masks" / "c.png", two_objects((14, 16)))
    with pytest.raises(InputError, match=r"size mismatch.*c\.png.*12 x 16.*14 x 16"):
        dataset[(0, 2)]


@pytest.mark.parametrize("options", [{"dtype": "float8"}, {"views": 0}])
def test_impossible_options_are_refused(tmp_path, options):
    with pytest.raises(InputError, match=r"cache\."):
        EmbeddingCache(tmp_path, "encoder", **options)
