"""Parquet files read where they lie: the samples of the library, few row groups open, exact after stops."""

import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from sam_train.data.loading.dataset import TrainDataset
from sam_train.data.loading.loader import ResumableLoader
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.hf import parquet
from sam_train.data.sources.hf.source import HfSource
from sam_train.errors import FileError, InputError
from tests.data.cache.embeddings import SAM
from tests.data.sources.test_hf import EVERYTHING, KINDS, own_cache, parquet_of_splits, table

__all__ = ["own_cache"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")


def write(path, rows, group_size=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, batch_size=group_size)
    return path


def streamed(root, **options):
    return HfSource(str(root), streaming=True, **EVERYTHING, **options).splits()["test"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_are_those_of_the_library(tmp_path, kind):
    path = write(tmp_path / "a.parquet", table(kind))
    images, expected = streamed(path), HfSource(str(path), **EVERYTHING).splits()["test"]
    check_sources({"test": images})
    assert list(images.ids) == list(expected.ids)
    for index in range(6):
        one, other = images.read(index), expected.read(index)
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.masks(), other.masks())
        assert one.category == other.category
        assert images.identity(index) == expected.identity(index)


@pytest.mark.filterwarnings("ignore:.*those of val serve")
def test_names_of_files_say_splits_as_for_the_library(tmp_path):
    parquet_of_splits(tmp_path / "a")
    for name in ("train-00000-of-00002", "train-00001-of-00002", "dev-00000-of-00001"):
        write(tmp_path / "b" / f"{name}.parquet", table(patient=[name] * 6))
    for root, options in (("a", {}), ("b", {"group_column": "patient"})):
        own = HfSource(str(tmp_path / root), streaming=True, **options).splits()
        other = HfSource(str(tmp_path / root), **options).splits()
        assert own.keys() == other.keys()
        for split, images in own.items():
            assert list(images.ids) == list(other[split].ids)
            assert list(images.groups) == list(other[split].groups)


def test_few_row_groups_are_open_and_each_is_read_once_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "OPEN_GROUPS", 2)
    monkeypatch.setattr("sam_train.data.sources.hf.images.OPEN_GROUPS", 2)
    for file in range(3):
        write(tmp_path / f"train-{file}.parquet", table(number=8))
    images = streamed(tmp_path)
    assert pq.ParquetFile(tmp_path / "train-0.parquet").num_row_groups == 4
    order = images.shuffled(torch.Generator().manual_seed(0)).tolist()
    assert sorted(order) == list(range(24))
    assert order != sorted(order)
    for index in order:
        images.read(index)
        assert len(images.table._open) <= 2
    assert images.table.num_opened == 12
    assert images.table._open[next(iter(images.table._open))].column_names == ["image", "mask"]
    assert not pickle.loads(pickle.dumps(images)).table._open


def stream(root, num_workers, stops, total=18):
    seen = []
    for stop in (*stops, total):
        images = streamed(root)
        dataset = TrainDataset(images, SAM, None, 4, 1, 0)
        batches = TrainBatches(len(dataset), 2, 0, 0, 1, images.shuffled)
        loader = ResumableLoader(dataset, batches, num_workers=num_workers)
        loader.load_state_dict({"seen": len(seen)})
        for batch in (batch for _ in range(total) for batch in loader):
            seen.append((batch.ids, batch.masks.sum().item(), batch.draws.sum().item()))
            if len(seen) == stop:
                break
    return seen


def test_two_stops_in_the_middle_of_epochs_change_nothing(tmp_path):
    for file in range(2):
        write(tmp_path / f"{file}.parquet", table(number=7))
    assert stream(tmp_path, 2, (3, 11)) == stream(tmp_path, 0, ())


def test_what_cannot_be_read_is_told(tmp_path):
    path = write(tmp_path / "set" / "a.parquet", table(number=40))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(FileError, match=r"damaged table: .*a.parquet"):
        streamed(path.parent)
    path.write_bytes(whole[:8] + b"\0" * 3000 + whole[3008:])
    with pytest.raises(FileError, match=r"damaged table: .*a.parquet: row group 0: .*copy or download it anew"):
        streamed(path.parent, check=False).read(0)
    path.write_bytes(whole)
    write(tmp_path / "set" / "b.parquet", Dataset.from_dict({"other": [1]}))
    with pytest.raises(FileError, match=r"other columns: .*b.parquet: has the columns other, but a"):
        streamed(path.parent)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="reads parquet files, and there are none"):
        streamed(tmp_path / "none")
    with pytest.raises(InputError, match=r"hf download owner/name .* and give data.root=DIR"):
        HfSource(hub="owner/name", streaming=True).splits()
    assert np.array_equal(streamed(write(tmp_path / "c.parquet", table())).rows, range(6))
