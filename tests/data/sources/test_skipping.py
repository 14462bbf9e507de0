"""``data.on_error=skip``: what cannot be read is left out, counted and named, and nothing else changes."""

import json
import pickle
from itertools import islice

import numpy as np
import pytest
import torch

from sam_train.data.cache.embedding_cache import EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.loading.loader import BatchLoader, ResumableLoader
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.base import DataSource, all_objects
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.skipping import SkippedError, begin_skipping, skipped_of, splits_of
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import FileError, InputError, Problem
from tests.data.cache.embeddings import SAM, encode
from tests.data.samples import Squares
from tests.data.sources.coco_files import annotation, content, make_coco
from tests.data.sources.folders import EVERYTHING, make_folder, two_objects
from tests.data.sources.volume_files import make_volumes, save_nifti, voxels


class Broken(Squares):
    """Squares of which some cannot be read."""

    def __init__(self, broken, num_images=12, first=0):
        super().__init__(num_images, first=first)
        self.broken = broken

    def read(self, index, *args, **options):
        if index in self.broken:
            raise FileError(Problem("unreadable file", self.ids[index], f"number {index} is torn", "copy it anew"))
        return super().read(index, *args, **options)


class Source(DataSource):
    on_error = "skip"

    def __init__(self, **splits):
        self._splits = splits

    def splits(self):
        return self._splits


def named(folder):
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


def stream(images, num_workers=0, start=0, count=12, cache=None):
    dataset = TrainDataset(images, SAM, None, 4, 4, 0, cache)
    loader = ResumableLoader(dataset, TrainBatches(len(dataset), 2, 0, 0, 1), num_workers=num_workers)
    loader.load_state_dict({"seen": start})
    return list(islice((batch for _ in range(9) for batch in loader), count))


def tell(batches):
    return [(batch.ids, batch.masks.sum().item(), batch.draws.sum().item()) for batch in batches]


def test_a_truncated_image_is_left_out_and_named(tmp_path):
    make_folder(tmp_path / "set")
    cut_short(tmp_path / "set" / "images" / "p1_3.png")
    splits = splits_of(FolderSource(str(tmp_path / "set"), on_error="skip", **EVERYTHING), tmp_path)
    check_sources(splits)
    (record,) = named(tmp_path)
    assert (record["id"], record["split"], record["kind"]) == ("p1_3", "test", "unreadable file")
    assert record["path"].endswith("images/p1_3.png")
    assert record["remedy"]
    assert len(splits["test"].readable()) == 9


def test_run_lengths_of_another_size_are_left_out(tmp_path):
    what = content()
    what["annotations"][0]["segmentation"] = {"size": [5, 5], "counts": [0, 25]}
    what["annotations"].append(annotation(98, 99))
    make_coco(tmp_path / "set", what)
    source = CocoSource(str(tmp_path / "set"), split=(0, 0, 1), on_error="skip", check=False)
    splits = splits_of(source, tmp_path)
    begin_skipping(splits)
    loader = BatchLoader(EvalDataset(splits["test"], SAM, 1))
    seen = [batch.ids[0] for batch in loader]
    assert len(seen) == len(splits["test"]) - 1
    assert {one["kind"] for one in named(tmp_path)} == {"run lengths of another size", "annotation without image"}
    assert skipped_of(splits).numbers() == {"test": 1, "records without an image": 1}


def test_voxels_that_are_no_numbers_cost_their_volume_alone(tmp_path):
    make_volumes(tmp_path / "set")
    torn = voxels().astype(np.float32)
    torn[0, 0, 0] = np.nan
    save_nifti(tmp_path / "set" / "imagesTr" / "p0_0.nii.gz", torn)
    splits = splits_of(VolumeSource(str(tmp_path / "set"), split=(0, 0, 1), on_error="skip"), tmp_path)
    check_sources(splits)
    seen = [batch.ids[0] for batch in BatchLoader(EvalDataset(splits["test"], SAM, 1))]
    assert {name.split("/")[0] for name in seen} == {"p0_1", "p1_2", "p1_3", "p2_4", "p2_5"}
    assert {one["id"].split("/")[0] for one in named(tmp_path)} == {"p0_0"}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_takes_a_records_place_is_a_function_of_seed_and_epoch(tmp_path, num_workers):
    plain = tell(stream(Squares(12)))
    images = splits_of(Source(train=Broken({2, 9})), tmp_path)["train"]
    whole = tell(stream(images, num_workers))
    for before, after in zip(plain, whole, strict=True):
        assert not {"squares/2", "squares/9"} & set(after[0])
        assert {"squares/2", "squares/9"} & set(before[0]) or before == after  # all others are as they would be
    assert {one["id"] for one in named(tmp_path)} == {"squares/2", "squares/9"}
    anew = splits_of(Source(train=Broken({2, 9})), tmp_path / "anew")["train"]
    assert tell(stream(anew, start=5, count=7)) == whole[5:]  # what was met before the stop is not known here
    assert tell(stream(images, start=5, count=7)) == whole[5:]


class HalfBroken(Squares):
    """Squares of which one object of some images cannot be read."""

    def read(self, index, choose=all_objects, with_image=True):
        sample = super().read(index, choose, with_image)
        if index in (2, 3, 4, 5) and 1 in sample.value.tolist():
            raise FileError(Problem("run lengths of another size", self.ids[index], "object 1 is torn", "draw it anew"))
        return sample


def half_stream(folder, num_workers=0, start=0, checked=False):
    splits = splits_of(Source(train=HalfBroken(12)), folder)
    if checked:
        check_sources(splits)
    dataset = TrainDataset(splits["train"], SAM, None, 1, 4, 0)
    loader = ResumableLoader(dataset, TrainBatches(12, 2, 0, 0, 1), num_workers=num_workers)
    loader.load_state_dict({"seen": start})
    return tell(islice((batch for _ in range(9) for batch in loader), 36 - start))


def test_an_object_that_cannot_be_read_costs_its_image_only_where_it_is_chosen(tmp_path):
    whole = half_stream(tmp_path / "whole")
    assert {"squares/2", "squares/5"} <= {name for ids, *_ in whole for name in ids}  # with their other objects
    assert {one["id"] for one in named(tmp_path / "whole")} == {f"squares/{index}" for index in (2, 3, 4, 5)}
    assert half_stream(tmp_path / "workers", num_workers=2) == whole
    assert half_stream(tmp_path / "checked", checked=True) == whole
    assert half_stream(tmp_path / "whole", start=11) == whole[11:]  # where all is known
    assert half_stream(tmp_path / "anew", start=11) == whole[11:]


def test_what_is_known_of_an_image_does_not_make_it_another(tmp_path):
    images = splits_of(Source(train=HalfBroken(12)), tmp_path)["train"]
    before = [(images.identity(index), images.fingerprint(index)) for index in range(12)]
    with pytest.raises(SkippedError):
        images.read(3)
    assert [(images.identity(index), images.fingerprint(index)) for index in range(12)] == before


def test_checked_data_train_as_unchecked_ones(tmp_path):
    splits = splits_of(Source(train=Broken({2, 9})), tmp_path / "checked")
    check_sources(splits)
    assert len(named(tmp_path / "checked")) == 2
    unchecked = splits_of(Source(train=Broken({2, 9})), tmp_path / "unchecked")["train"]
    assert tell(stream(splits["train"])) == tell(stream(unchecked))


def test_the_cache_is_filled_without_it(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", "encoder")
    splits = splits_of(Source(train=Broken({2}), val=Broken({1}, 3, first=20)), tmp_path)
    train = TrainDataset(splits["train"], SAM, None, 4, 4, 0, cache)
    fill(cache, [train.views, EvalDataset(splits["val"], SAM, 4, cache).views], encode, batch_size=4, num_workers=2)
    assert len(list(cache.place.glob("*/*.safetensors"))) == 11 + 2
    features = stream(splits["train"], cache=cache)
    assert [batch.ids for batch in features] == [batch.ids for batch in stream(splits["train"])]
    expected = [encode(batch).embedding for batch in stream(splits["train"])]
    for batch, embedding in zip(features, expected, strict=True):
        torch.testing.assert_close(batch.features.embedding.float(), embedding, atol=0, rtol=2**-8)
    val = BatchLoader(EvalDataset(splits["val"], SAM, 4, cache))
    assert [batch.ids for batch in val] == [("squares/20",), ("squares/22",)]


def test_more_than_a_few_stop_the_run(tmp_path):
    few = splits_of(Source(train=Broken(range(10))), tmp_path / "few")
    check_sources(few)
    many = splits_of(Source(train=Broken(range(11), 500)), tmp_path / "many")
    with pytest.raises(InputError, match=r"11 of 500 images are left out so far, and more than 1% cannot be read"):
        check_sources(many)
    check_sources(splits_of(Source(train=Broken(range(11), 1200)), tmp_path / "large"))  # less than 1%
    with pytest.raises(InputError, match="no val image can be read"):
        check_sources(splits_of(Source(train=Squares(12), val=Broken({0}, 1, first=20)), tmp_path / "val"))


def test_the_limit_stops_loading_processes_too(tmp_path):
    images = splits_of(Source(train=Broken(range(100), 200)), tmp_path)["train"]
    with pytest.raises(InputError, match="mend the data, or take the records out"):
        stream(images, num_workers=2, count=100)


def test_processes_see_each_others_records_once(tmp_path):
    one = splits_of(Source(train=Broken({3})), tmp_path)["train"]
    other = pickle.loads(pickle.dumps(one))
    for images in (one, other, one):
        with pytest.raises(SkippedError, match="number 3 is torn"):
            images.read(3)
    assert len(named(tmp_path)) == 1
    with (tmp_path / "skipped.jsonl").open("a") as file:
        file.write((tmp_path / "skipped.jsonl").read_text() + '{"id": "torn')  # two at once, and a crash
    assert len(other.skipped.all()) == 1
    other.skipped.save(tmp_path / "report")
    assert len(named(tmp_path / "report")) == 1


def test_a_record_that_was_mended_is_tried_again(tmp_path):
    splits = splits_of(Source(train=Broken({3}), val=Broken({1}, first=20)), tmp_path)
    check_sources(splits)
    splits["train"].images.broken = set()
    begin_skipping(splits, anew=["train"])
    assert splits["train"].read(3).id == "squares/3"
    assert [one["split"] for one in named(tmp_path)] == ["val"]


def test_the_default_is_to_stop_with_the_name(tmp_path):
    make_folder(tmp_path / "set", {"a": two_objects(), "b": two_objects()})
    cut_short(tmp_path / "set" / "images" / "b.png")
    splits = splits_of(FolderSource(str(tmp_path / "set"), **EVERYTHING), tmp_path)
    with pytest.raises(FileError, match=r"unreadable file: .*b.png"):
        list(BatchLoader(EvalDataset(splits["test"], SAM, 1)))
    assert not (tmp_path / "skipped.jsonl").exists()


@pytest.mark.parametrize("kind", [FolderSource, CocoSource, VolumeSource])
def test_what_is_wrong_with_all_of_it_still_stops(tmp_path, kind):
    with pytest.raises(InputError, match="no such folder"):
        splits_of(kind(str(tmp_path / "none"), on_error="skip"), tmp_path)
    with pytest.raises(InputError, match=r"data.on_error=leave: expected one of stop, skip"):
        splits_of(kind(str(tmp_path / "none"), on_error="leave"), tmp_path)


def test_a_volume_whose_labels_cannot_be_read_is_no_clip_and_is_named(tmp_path):
    make_volumes(tmp_path / "data", 3)
    (tmp_path / "data/labelsTr/p0_1.nii.gz").write_bytes(b"torn")
    source = VolumeSource(str(tmp_path / "data"), split=(0, 0, 1), on_error="skip", check=False)
    clips = splits_of(source, tmp_path)["test"].as_clips()
    assert [clip.name for clip in clips.clips] == ["p0_0", "p1_2"]
    assert [clips.read_frame(clip, 0).id for clip in (0, 1)] == ["p0_0/axial_0002", "p1_2/axial_0002"]
    assert [one["id"] for one in named(tmp_path)] == ["p0_1/axial_0000"]
    for path in (tmp_path / "data/labelsTr").iterdir():
        path.write_bytes(b"torn")
    with pytest.raises(FileError, match="unreadable volume"):
        splits_of(source, tmp_path / "other")["test"].as_clips()
