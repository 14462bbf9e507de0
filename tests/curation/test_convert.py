"""Images and objects are the same in every format, whatever happened while they were written."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.curation import formats, parallel
from sam_train.curation.convert import convert
from sam_train.curation.records import read_records
from sam_train.data.sources.base import ImageSubset
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.hf.source import HfSource
from sam_train.data.sources.sa1b.source import Sa1bSource
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.data.world import ToySource
from sam_train.errors import FileError, InputError
from tests.data.sources.coco_files import content, make_coco, run_lengths, square
from tests.data.sources.volume_files import make_volumes

TOY = ToySource("world", 7, 3, 2, image_size=64)
KINDS = ["coco", "datasets", "webdataset"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, tmp_path):
    for kind in (formats.Format, formats.Coco):
        monkeypatch.setattr(kind, "images_per_part", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def opened(kind, folder, monkeypatch):
    if kind == "coco":
        return CocoSource(str(folder), group_key="group").splits()
    if kind == "webdataset":
        return Sa1bSource(str(folder)).splits()
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder.parent / "cache")
    return HfSource(str(folder), group_column="group").splits()


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(ours, theirs):
    """The same masks, categories and crowds, in order."""
    assert torch.equal(ours.image, theirs.image)
    assert torch.equal(ours.masks(), theirs.masks())
    assert theirs.category == (ours.category or ("object",) * len(ours.value))
    crowds = [torch.zeros(len(one.value)) if one.crowd is None else one.crowd.float() for one in (ours, theirs)]
    assert torch.equal(*crowds)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")
@pytest.mark.parametrize("kind", KINDS)
def test_images_masks_and_splits_are_those_of_the_source(kind, tmp_path, monkeypatch):
    splits = TOY.splits()
    assert convert(splits, kind, tmp_path / "new", {}) == 12
    found = opened(kind, tmp_path / "new", monkeypatch)
    assert {name: len(images) for name, images in found.items()} == {"train": 7, "val": 3, "test": 2}
    for name, images in splits.items():
        for index in range(len(images)):
            assert_same(images.read(index), found[name].read(index))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")
@pytest.mark.filterwarnings("ignore:.*those of val serve")
@pytest.mark.parametrize("kind", KINDS)
def test_categories_crowds_groups_and_files_are_kept(kind, tmp_path, monkeypatch):
    what = content(6)
    what["annotations"][1] |= {"iscrowd": 1, "segmentation": run_lengths(square(2, 3, 6))}
    what["annotations"].append({**what["annotations"][1], "id": 999, "iscrowd": 0})
    for number, image in enumerate(what["images"]):
        image["patient"] = f"p{number // 2}"
    make_coco(tmp_path / "old", what)
    source = CocoSource(str(tmp_path / "old"), split=(0.5, 0.5, 0), group_key="patient")
    splits = source.splits()
    convert(splits, kind, tmp_path / "new", {})
    found = opened(kind, tmp_path / "new", monkeypatch)
    crowds = 0
    for name in ("train", "val"):
        for index in range(len(splits[name])):
            ours = splits[name].read(index)
            assert_same(ours, found[name].read(index))
            assert found[name].stored(index) == splits[name].stored(index)  # a JPEG stays what it is
            assert kind == "webdataset" or found[name].group(index) == splits[name].group(index)
            crowds += 0 if ours.crowd is None else int(ours.crowd.sum())
    assert crowds == 1
    assert "test" not in [path.name.split(".")[0].split("-")[0] for path in tree(tmp_path / "new")]


def write_folder(root):
    """Gray of 16 bits; a photograph that is stored turned; a mask with void."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    deep = np.random.default_rng(0).integers(0, 60000, (20, 30)).astype(np.uint16)
    Image.fromarray(deep).save(root / "images" / "deep.png")
    turned = Image.new("RGB", (30, 20), (200, 50, 50))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "images" / "turned.jpg", exif=exif)
    for name, size in (("deep", (20, 30)), ("turned", (30, 20))):
        labels = np.zeros(size, np.uint8)
        labels[3:9, 4:12] = 1
        labels[12:, :5] = 255
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")
    return deep


def test_bits_are_kept_and_photographs_become_upright(tmp_path):
    deep = write_folder(tmp_path / "old")
    images = FolderSource(str(tmp_path / "old"), ignore=[255], split=(0, 0, 1)).splits()["test"]
    one, other = read_records(images, range(2))
    assert (one.key, one.suffix, other.suffix) == ("0000000_deep", "png", "png")
    assert np.array_equal(np.array(Image.open(io.BytesIO(one.content))), deep)
    with Image.open(io.BytesIO(other.content)) as upright:
        assert upright.size == (20, 30)
        assert upright.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.array(upright), images.read(1).image.permute(1, 2, 0).numpy())
    size = {"height": 30, "width": 20}
    assert other.image == {"file_name": "0000001_turned.png", **size, "name": "turned", "group": "turned"}
    assert [(record["category"], record["iscrowd"], record["area"]) for record in one.annotations] == [
        ("object", 0, 48),
        ("ignored", 1, 40),
    ]


def test_a_tar_is_as_sa1b_has_them(tmp_path):
    convert(TOY.splits(), "webdataset", tmp_path / "new", {})
    with tarfile.open(tmp_path / "new" / "val-000001.tar") as tar:
        names = tar.getnames()
        picture, record = (tar.extractfile(name).read() for name in names)
    assert names == [f"0000002_toy-world_val_000002.{suffix}" for suffix in ("png", "json")]
    what = json.loads(record)
    sample = TOY.splits()["val"].read(2)
    assert np.array_equal(np.array(Image.open(io.BytesIO(picture))), sample.image.permute(1, 2, 0).numpy())
    said = {"file_name": names[0], "height": 64, "width": 64, "name": sample.id, "group": sample.id}
    assert what["image"] == {"image_id": 9, **said}
    assert [one["area"] for one in what["annotations"]] == sample.areas().tolist()
    assert what["annotations"][0]["segmentation"].keys() == {"size", "counts"}


@pytest.mark.parametrize("kind", KINDS)
def test_processes_and_interruptions_change_no_byte(kind, tmp_path, monkeypatch):
    splits = TOY.splits()
    convert(splits, kind, tmp_path / "at_once", {})
    monkeypatch.setattr(parallel, "num_processors", lambda: 2)
    convert(splits, kind, tmp_path / "shared", {})
    monkeypatch.setattr(parallel, "num_processors", lambda: 1)
    for last in (0, 3, 6):  # images that can be read before it is stopped
        with pytest.raises(KeyboardInterrupt):
            convert({**splits, "train": Stopping(splits["train"], last)}, kind, tmp_path / "stopped", {})
        assert not list((tmp_path / "stopped").rglob("instances*.json"))
    done = [path for path in (tmp_path / "stopped").rglob("*train*") if path.suffix in (".jsonl", ".parquet", ".tar")]
    before = {path: path.stat().st_mtime_ns for path in done}
    assert len(done) == 3
    convert(splits, kind, tmp_path / "stopped", {})
    expected = tree(tmp_path / "at_once")
    assert tree(tmp_path / "shared") == expected
    assert tree(tmp_path / "stopped") == expected
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items() if kind != "coco")


class Stopping(ImageSubset):
    """Images at one of which a person presses Ctrl-C."""

    def __init__(self, images, last):
        super().__init__(images, range(len(images)))
        self.last = last

    def read(self, index, *arguments, **options):
        if index >= self.last:
            raise KeyboardInterrupt
        return super().read(index, *arguments, **options)


KILLED = """
import sys
from pathlib import Path
from sam_train.curation import formats
from sam_train.curation.convert import convert
from sam_train.data.world import ToySource
formats.Coco.images_per_part = 2
convert(ToySource("shapes", 200, 2, 1, image_size=64).splits(), "coco", Path(sys.argv[1]), {})
"""


def test_after_a_kill_the_same_command_goes_on_to_the_same_bytes(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "killed")], start_new_session=True)
    while len(list((tmp_path / "killed").glob(".parts/*.jsonl"))) < 3:
        assert killed.poll() is None, "it was too fast"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "annotations").exists()
    (tmp_path / "killed" / "images" / "train" / ".unfinished-0-a.png").write_bytes(b"half")
    for name in ("killed", "at_once"):
        convert(ToySource("shapes", 200, 2, 1, image_size=64).splits(), "coco", tmp_path / name, {})
    assert tree(tmp_path / "killed") == tree(tmp_path / "at_once")


def test_what_is_done_is_not_done_again(tmp_path):
    splits = TOY.splits()
    convert(splits, "webdataset", tmp_path, {})
    before = tree(tmp_path)
    stopping = {name: Stopping(images, 0) for name, images in splits.items()}
    assert convert(stopping, "webdataset", tmp_path, {}) == 12
    assert tree(tmp_path) == before


def test_a_folder_of_anything_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("thesis")
    with pytest.raises(InputError, match=r"holds thesis.tex and 0 others; name a new or an empty folder"):
        convert(TOY.splits(), "coco", tmp_path, {})
    convert(TOY.splits(), "coco", tmp_path / "new", {})
    for kind, settings in (("webdataset", {}), ("coco", {"seed": 1})):
        with pytest.raises(InputError, match="from other data or to another format"):
            convert(TOY.splits(), kind, tmp_path / "new", settings)
    with pytest.raises(InputError, match="a file; name a folder"):
        convert(TOY.splits(), "coco", tmp_path / "thesis.tex", {})


def test_a_split_without_images_is_left_out_and_none_at_all_is_refused(tmp_path):
    convert(ToySource("shapes", 1, 0, 0, image_size=64).splits(), "coco", tmp_path / "one", {})
    assert [path.name for path in (tmp_path / "one" / "annotations").iterdir()] == ["instances_train.json"]
    with pytest.raises(InputError, match="there are no images in any split"):
        convert(ToySource("shapes", 0, 0, 0, image_size=64).splits(), "coco", tmp_path / "none", {})


@pytest.mark.parametrize("processes", [1, 2])
def test_a_broken_image_is_named_and_once_mended_the_rest_follows(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "num_processors", lambda: processes)
    write_folder(tmp_path / "old")
    path = tmp_path / "old" / "images" / "deep.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:80])
    splits = FolderSource(str(tmp_path / "old"), split=(0, 0, 1)).splits()
    with pytest.raises(FileError, match=r"deep\.png"):
        convert(splits, "webdataset", tmp_path / "new", {})
    assert not list((tmp_path / "new").glob("*.tar"))
    path.write_bytes(whole)
    assert convert(splits, "webdataset", tmp_path / "new", {}) == 2


def test_spacing_of_volumes_is_kept(tmp_path):
    make_volumes(tmp_path)
    images = VolumeSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    (record,) = read_records(images, range(1))
    sample = images.read(0)
    assert record.image["spacing"] == list(sample.spacing)
    assert record.suffix == "png"
    assert np.array_equal(np.array(Image.open(io.BytesIO(record.content))), sample.image[0].numpy())


def test_the_slices_of_a_stack_keep_their_bits(tmp_path):
    import tifffile

    stack = np.random.default_rng(0).integers(0, 60000, (3, 16, 24)).astype(np.uint16)
    for name, pixels in (("images", stack), ("masks", (stack > 30000).astype(np.uint8))):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", pixels, photometric="minisblack")
    images = FolderSource(str(tmp_path), pages=True, split=(0, 0, 1)).splits()["test"]
    for page, record in enumerate(read_records(images, range(3))):
        assert record.suffix == "tif"
        assert np.array_equal(tifffile.imread(io.BytesIO(record.content)), stack[page])
