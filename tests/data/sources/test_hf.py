"""Data sets of Hugging Face: every way to store masks gives the same samples."""

import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pillow

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.hf.source import HfSource
from sam_train.data.sources.recognizing import recognize
from sam_train.errors import FileError, InputError
from tests.data.sources.coco_files import SIZE, compressed, pixels, run_lengths, square

ONE, OTHER = square(), square(left=9)
EVERYTHING = {"split": (0, 0, 1)}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


def picture(seed=0):
    return Pillow.fromarray(pixels(seed))


def plane(mask):
    return Pillow.fromarray(mask.astype(np.uint8))


def coco_objects():
    polygon = [[2.0, 1, 6, 1, 6, 5, 2, 5]]
    other = [[9.0, 1, 13, 1, 13, 5, 9, 5]]
    return {"segmentation": [polygon, other], "category": [1, 0], "bbox": [[2.0, 1, 4, 4], [9.0, 1, 4, 4]]}


_POLYGONS = List(List(List(Value("float64"))))
_CATEGORY = ClassLabel(names=["leaf", "stem"])
_RUNS = {"size": List(Value("int32")), "counts": Value("string")}
KINDS = {
    "label image": (plane(ONE + 2 * OTHER), Image()),
    "binary images": ([plane(ONE), plane(OTHER)], List(Image())),
    "run lengths": ([compressed(ONE), compressed(OTHER)], List(_RUNS)),
    "numbers of run lengths": (
        [run_lengths(ONE), run_lengths(OTHER)],
        List({"size": List(Value("int32")), "counts": List(Value("int32"))}),
    ),
    "objects": (
        coco_objects(),
        {"segmentation": _POLYGONS, "category": List(_CATEGORY), "bbox": List(List(Value("float64")))},
    ),
    "list of objects": (
        [
            {"segmentation": outline, "category": category}
            for outline, category in zip(coco_objects()["segmentation"], (1, 0), strict=True)
        ],
        List({"segmentation": List(List(Value("float64"))), "category": _CATEGORY}),
    ),
}


def table(kind="label image", number=6, **more):
    cell, feature = KINDS[kind]
    content = {"image": [picture(seed) for seed in range(number)], "mask": [cell] * number}
    features = Features({"image": Image(), "mask": feature})
    for name, values in more.items():
        content[name], features[name] = values, Value("string")
    return Dataset.from_dict(content, features=features)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mask_gives_the_same_objects(tmp_path, kind):
    table(kind).save_to_disk(tmp_path / "set")
    images = HfSource(str(tmp_path / "set"), **EVERYTHING).splits()["test"]
    check_sources({"test": images})
    assert len(images) == 6
    for index in range(6):
        sample = images.read(index)
        assert torch.equal(sample.image, torch.from_numpy(pixels(index)).permute(2, 0, 1))
        assert np.array_equal(sample.masks().numpy(), [ONE, OTHER])
        assert sample.category == (("stem", "leaf") if "objects" in kind else None)
    assert images.read(0, with_image=False).image.shape == (0, *SIZE)


def test_a_category_without_a_name_is_its_number(tmp_path):
    cell, feature = KINDS["objects"]
    content = {"image": [picture(seed) for seed in range(3)], "mask": [cell | {"category": [-1, 1]}] * 3}
    Dataset.from_dict(content, features=Features({"image": Image(), "mask": feature})).save_to_disk(tmp_path / "set")
    images = HfSource(str(tmp_path / "set"), **EVERYTHING).splits()["test"]
    assert images.read(0).category == ("-1", "stem")


def parquet_of_splits(root):
    for split in ("train", "validation", "test"):
        (root / "data").mkdir(parents=True, exist_ok=True)
        table().to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")


def image_folder(root):
    for split in ("train", "validation", "test"):
        (root / split).mkdir(parents=True)
        lines = []
        for index in range(6):
            picture(index).save(root / split / f"{index}.png")
            plane(ONE + 2 * OTHER).save(root / split / f"m{index}.png")
            lines.append(json.dumps({"file_name": f"{index}.png", "mask_file_name": f"m{index}.png"}))
        (root / split / "metadata.jsonl").write_text("\n".join(lines))


def saved_splits(root):
    DatasetDict({name: table() for name in ("train", "validation", "test")}).save_to_disk(root)


@pytest.mark.parametrize("write", [parquet_of_splits, image_folder, saved_splits], ids=lambda write: write.__name__)
def test_local_data_sets_keep_their_splits(tmp_path, write):
    write(tmp_path / "set")
    splits = HfSource(str(tmp_path / "set")).splits()
    assert {name: len(images) for name, images in splits.items()} == {"train": 6, "val": 6, "test": 6}
    for images in splits.values():
        assert np.array_equal(images.read(5).masks().numpy(), [ONE, OTHER])
    assert [found.words for found in recognize(tmp_path / "set")] == [("data=hf",)]


def test_one_table_is_split_by_group(tmp_path):
    table(patient=list("aabbcc")).to_parquet(tmp_path / "a.parquet")
    splits = HfSource(str(tmp_path / "a.parquet"), group_column="patient").splits()
    assert [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sorted(images.group(0) for images in splits.values()) == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"data\.group_column=person: no such column"):
        HfSource(str(tmp_path / "a.parquet"), group_column="person").splits()


def test_validation_is_a_share_of_training_where_there_is_a_test_alone(tmp_path):
    DatasetDict({"train": table(number=10), "test": table(number=3)}).save_to_disk(tmp_path / "set")
    splits = HfSource(str(tmp_path / "set")).splits()
    assert {name: len(images) for name, images in splits.items()} == {"train": 8, "val": 2, "test": 3}


def test_a_split_that_is_named_leaves_the_others_as_they_are_called(tmp_path):
    numbers = {"train": 5, "validation": 4, "held_out": 3}
    DatasetDict({name: table(number=number) for name, number in numbers.items()}).save_to_disk(tmp_path / "set")
    splits = HfSource(str(tmp_path / "set"), test="held_out").splits()
    assert {name: len(images) for name, images in splits.items()} == {"train": 5, "val": 4, "test": 3}
    with pytest.warns(UserWarning, match="no images for the test"):
        swapped = HfSource(str(tmp_path / "set"), train="validation", val="train").splits()
    assert {name: len(images) for name, images in swapped.items()} == {"train": 4, "val": 5, "test": 5}


def test_columns_are_named_where_they_are_not_plain(tmp_path):
    cell, _ = KINDS["label image"]
    content = {"left": [picture()] * 3, "right": [picture(1)] * 3, "mask": [cell] * 3, "text": ["x"] * 3}
    Dataset.from_dict(content).save_to_disk(tmp_path / "set")
    root = str(tmp_path / "set")
    with pytest.raises(InputError, match=r"left and right may hold images; say which with data\.image_column"):
        HfSource(root).splits()
    assert len(HfSource(root, image_column="left", **EVERYTHING).splits()["test"]) == 3
    with pytest.raises(
        InputError, match=r"data\.image_column=lefd: no such column .* did you mean left\? columns there"
    ):
        HfSource(root, image_column="lefd").splits()
    with pytest.raises(InputError, match=r"data\.mask_column=text: neither images, nor run lengths"):
        HfSource(root, image_column="left", mask_column="text").splits()


def test_nothing_outside_the_root_is_read(tmp_path):
    picture().save(tmp_path / "secret.png")
    cell, feature = KINDS["label image"]
    content = {"image": [{"path": str(tmp_path / "secret.png"), "bytes": None}] * 3, "mask": [cell] * 3}
    rows = Dataset.from_dict(content, features=Features({"image": Image(), "mask": feature}))
    (tmp_path / "set").mkdir()
    pq.write_table(rows.data.table, tmp_path / "set" / "a.parquet")  # which would embed the file otherwise
    images = HfSource(str(tmp_path / "set" / "a.parquet"), **EVERYTHING).splits()["test"]
    for ask in (images.read, images.identity):
        with pytest.raises(FileError, match=r"name leads out of the data root: .*train/000000/image: leads to"):
            ask(0)


def test_damaged_rows_are_named(tmp_path):
    good, _ = KINDS["label image"]
    content = {
        "image": [{"bytes": b"no image"}, picture(), picture(1)],
        "mask": [good, Pillow.new("L", (3, 3)), good],
    }
    features = Features({"image": Image(), "mask": Image()})
    Dataset.from_dict(content, features=features).save_to_disk(tmp_path / "set")
    with pytest.raises(InputError, match=r"the data has 2 problem") as error:
        check_sources(HfSource(str(tmp_path / "set"), **EVERYTHING).splits())
    assert "all/000000/image" in str(error.value)
    assert "all/000001/mask: 3 x 3, but its image is 12 x 16" in str(error.value)


def test_what_is_no_data_set_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected a folder, or a file of \.parquet or \.arrow"):
        HfSource(str(tmp_path / "a.txt")).splits()
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="no data set that `datasets` can open"):
        HfSource(str(tmp_path / "a.parquet")).splits()
    with pytest.raises(InputError, match="give one of them"):
        HfSource().splits()
