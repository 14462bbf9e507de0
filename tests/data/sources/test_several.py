"""Several sources in one run: what an epoch shows of each, and what is said of where an image is from."""

from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.loading.loader import ResumableLoader
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.base import DataSource
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.several import SeveralImages, SeveralSources
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from tests.data.cache.embeddings import SAM
from tests.data.samples import Squares
from tests.data.sources.coco_files import make_coco
from tests.data.sources.folders import make_folder
from tests.data.sources.volume_files import make_volumes

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def several(numbers, weights=()):
    parts = {f"part{place}": Squares(number) for place, number in enumerate(numbers)}
    return SeveralImages(parts, dict(zip(parts, weights, strict=False)))


def epoch(images, seed):
    return images.shuffled(torch.Generator().manual_seed(seed)).tolist()


@given(sizes, st.integers(0, 9))
def test_without_weights_an_epoch_shows_every_image_once(numbers, seed):
    images = several(numbers)
    assert images.epoch_size == sum(numbers)
    assert sorted(epoch(images, seed)) == list(range(sum(numbers)))
    assert epoch(images, seed) == epoch(several(numbers), seed)


@given(sizes, st.data(), st.integers(0, 9))
def test_with_weights_an_epoch_shows_each_sources_share_and_no_image_twice(numbers, data, seed):
    weights = data.draw(st.lists(st.floats(0.01, 100), min_size=len(numbers), max_size=len(numbers)))
    images = several(numbers, weights)
    order = epoch(images, seed)
    assert len(order) == len(set(order)) == images.epoch_size <= sum(numbers)
    shown = Counter(images.find(index)[0] for index in order)
    for part, weight in enumerate(weights):
        share = images.epoch_size * Fraction(weight) / sum(map(Fraction, weights))
        assert abs(shown[part] - share) < 1


def test_shares_are_exact_on_average():
    images = several([50, 7, 20], [1, 1, 0.5])  # an epoch is 17 images: 6.8, 6.8 and 3.4
    assert images.epoch_size == 17
    shown = Counter(images.find(index)[0] for seed in range(400) for index in epoch(images, seed))
    for part, share in enumerate([6.8, 6.8, 3.4]):
        assert shown[part] / 400 == pytest.approx(share, abs=0.1)
    assert len({index for seed in range(40) for index in epoch(images, seed)}) == 77  # all come in time


def stream(stops, weights, total=24):
    seen = []
    for stop in (*stops, total):
        images = several([7, 12, 3], weights)
        dataset = TrainDataset(images, SAM, None, 4, 4, 0)
        loader = ResumableLoader(dataset, TrainBatches(images.epoch_size, 2, 0, 0, 1, images.shuffled))
        loader.load_state_dict({"seen": len(seen)})
        for batch in (batch for _ in range(total) for batch in loader):
            seen.append((batch.ids, batch.masks.sum().item(), batch.draws.sum().item()))
            if len(seen) == stop:
                break
    return seen


@pytest.mark.parametrize("weights", [(), (1, 2, 1)])
def test_two_stops_in_the_middle_of_epochs_change_nothing(weights):
    assert stream((5, 16), weights) == stream((), weights)


def test_an_image_that_cannot_train_is_replaced_by_one_of_its_source():
    images = several([12, 12, 12])  # images 0 and 6 of each have no object
    dataset = TrainDataset(images, SAM, None, 4, 4, 0)
    for index in range(36):
        assert dataset[(1, index)].ids[0].split("/")[0] == images.ids[index].split("/")[0]


@pytest.fixture
def parts(tmp_path):
    make_folder(tmp_path / "a")
    make_coco(tmp_path / "b")
    make_volumes(tmp_path / "c")
    volumes = VolumeSource(str(tmp_path / "c"), split=(0.5, 0.25, 0.25))
    return {"a": FolderSource(str(tmp_path / "a")), "b": CocoSource(str(tmp_path / "b")), "c": volumes}


def test_every_sources_own_splits_are_whole_and_categories_merge_by_name(parts):
    splits = SeveralSources(parts).splits()
    for split, images in splits.items():
        own = [f"{name}/{image}" for name, source in parts.items() for image in source.splits()[split].ids]
        assert list(images.ids) == own
    test = splits["test"]
    assert test.categories == ("leaf", "stem", "1", "2")
    for index, batch in enumerate(EvalDataset(test, SAM, 0)[place] for place in range(len(test))):
        (truth,) = batch.originals
        name = test.ids[index].split("/")[0]
        assert (truth.source, truth.group.split("/")[0]) == (name, name)
        place = test.slice_of(index)
        assert (place is not None) == (name == "c")
        assert place is None or place.volume.startswith("c/")
    assert len({test.identity(index) for index in range(len(test))}) == len(test)


def test_what_has_no_test_of_its_own_is_left_out_of_it_with_a_word(tmp_path, parts):
    for split in ("train", "val"):
        make_folder(tmp_path / "d" / split)
    some = {"a": parts["a"], "d": FolderSource(str(tmp_path / "d"))}
    with pytest.warns(UserWarning, match=r"d have no images for the test, and are not in its scores"):
        splits = SeveralSources(some).splits()
    assert {name.split("/")[0] for name in splits["test"].ids} == {"a"}
    assert {name.split("/")[0] for name in splits["val"].ids} == {"a", "d"}
    with pytest.warns(UserWarning, match="those of val serve for it"):
        splits = SeveralSources({"d": some["d"]}).splits()
    assert splits["test"] is splits["val"]


def test_mistakes_are_told_with_the_part(parts):
    for wrong, expected in (
        (SeveralSources({}), "no source is named"),
        (SeveralSources(parts, {"a": 1.0}), "b has no weight, others have"),
        (SeveralSources(parts, {"a": 1, "b": 0, "c": 1}), r"data.parts.b.weight=0: expected a number above 0"),
        (SeveralSources({"a/b": parts["a"]}), "a name without '/' is wanted"),
        (SeveralSources({"x": FolderSource("/none")}), r"data.parts.x: data.root=/none: no such folder"),
    ):
        with pytest.raises(InputError, match=expected):
            wrong.splits()
    assert issubclass(SeveralSources, DataSource)
