"""COCO files: the masks are pycocotools' own, whatever tool wrote the file."""

import json
import pickle
import pickletools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools.coco import COCO

from sam_train.data.loading.dataset import EvalDataset, TrainDataset
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.coco.outlines import Kind, Outlines
from sam_train.data.sources.coco.reading import read_index
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.packed_texts import PackedTexts
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing
from tests.data.sources.coco_files import (
    SIZE,
    annotation,
    compressed,
    content,
    make_coco,
    run_lengths,
    save_images,
    save_json,
    square,
)
from tests.parity.reference import SHARED

ALL = {"split": (0, 0, 1)}
THEIRS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""pycocotools 2.0.11 speaks to numpy 1."""

PREPROCESSING = Preprocessing(image_size=64, resize="longest_side")


def everything(root, **options):
    return CocoSource(str(root), **{**ALL, **options}).splits()["test"]


@THEIRS
@pytest.mark.parametrize("name", ["balloon", "fruits_nuts"])
def test_masks_of_real_sets_are_those_of_pycocotools(name):
    root = SHARED / "data" / name
    if not root.is_dir():
        pytest.skip(f"no {root}")
    images, theirs = everything(root), COCO(root / "annotations_coco.json")
    assert len(images) == len(theirs.imgs)
    names = {one["file_name"]: key for key, one in theirs.imgs.items()}
    for index, image_id in enumerate(images.ids):
        sample = images.read(index)
        expected = theirs.loadAnns(theirs.getAnnIds(names[image_id.removeprefix("images/")]))
        assert sample.category == tuple(theirs.cats[one["category_id"]]["name"] for one in expected)
        for mask, one in zip(sample.each_mask(), expected, strict=True):
            assert np.array_equal(mask.numpy(), theirs.annToMask(one).astype(bool))
    check_sources({"test": images})


@pytest.fixture
def mask_of(tmp_path):
    """Reads the mask of one outline through a file."""

    def read(outline):
        what = {**content(1), "annotations": [annotation(1, 5, outline)]}
        return read_index(save_json(tmp_path / "a.json", what)).outlines.mask(0, SIZE)

    return read


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans()))
def test_run_lengths_compressed_or_not_give_back_the_mask(mask):
    for runs in (compressed(mask), run_lengths(mask)):
        is_text = isinstance(runs["counts"], str)
        numbers = np.array([] if is_text else runs["counts"], float)
        outlines = Outlines(
            kind=np.array([Kind.TEXT if is_text else Kind.RUN_LENGTHS], np.uint8),
            rings=np.array([0, 1 - is_text]),
            places=np.array([0, len(numbers)]) if not is_text else np.array([0]),
            numbers=numbers,
            texts=PackedTexts([runs["counts"] if is_text else ""]),
            sizes=np.array([mask.shape]),
        )
        assert np.array_equal(outlines.mask(0, mask.shape), mask)


def test_a_polygon_may_have_a_hole_or_come_without_the_list_around_it(mask_of):
    outer, inner = [1, 1, 11, 1, 11, 11, 1, 11, 1, 1], [4, 4, 4, 8, 8, 8, 8, 4, 4, 4]
    mask = mask_of([outer + inner])
    assert mask[2, 2]
    assert not mask[6, 6]
    assert np.array_equal(mask_of([2, 1, 6, 1, 6, 5, 2, 5]), square())
    assert np.array_equal(mask_of([[2, 1, 6, 1, 6, 5, 2, 5], [9, 1, 13, 1, 13, 5, 9, 5]]), square() | square(left=9))


def test_a_crowd_does_not_train_and_is_ignored_in_evaluation(tmp_path):
    what = content(1)
    what["annotations"] = [
        annotation(1, 5, compressed(square())),
        annotation(2, 5, run_lengths(square(left=9)), iscrowd=1),
    ]
    images = everything(make_coco(tmp_path, what))
    assert images.read(0).crowd.tolist() == [False, True]
    train = TrainDataset(images, PREPROCESSING, None, 8, 1, 0)[0, 0]
    assert train.num_objects == 1
    assert train.ignore is None
    evaluated = EvalDataset(images, PREPROCESSING, 1)[0]
    assert evaluated.num_objects == 1
    assert np.array_equal(evaluated.originals[0].ignore.numpy(), square(left=9))


def test_only_the_categories_that_are_named_count(tmp_path):
    with pytest.warns(UserWarning, match=r"5 of 10 images have no object; left out"):
        images = everything(make_coco(tmp_path), categories=["stem"])
    assert len(images) == 5
    assert images.categories == ("stem",)
    assert {images.read(index).category for index in range(5)} == {("stem",)}
    with pytest.raises(InputError, match=r"no category 'lief'; did you mean leaf\? there are leaf, stem"):
        everything(tmp_path, categories=["lief"])


def test_objects_that_are_not_chosen_are_not_decoded(tmp_path):
    what = content(1)
    what["annotations"] = [annotation(1, 5), annotation(2, 5, [[1, 1, 3, 3]])]
    images = everything(make_coco(tmp_path, what))
    shares = []
    sample = images.read(0, lambda found: shares.append(found) or torch.tensor([0]), with_image=False)
    assert sample.value.tolist() == [1]
    assert sample.image.shape == (0, *SIZE)
    assert shares[0].tolist() == pytest.approx([16 / 192] * 2)


def coco_as_by_its_authors(root):
    for split, first in (("train2017", 0), ("val2017", 6)):
        what = content(6 if first == 0 else 2)
        save_images(root / split, [one["file_name"] for one in what["images"]], first)
        save_json(root / "annotations" / f"instances_{split}.json", what)
        save_json(root / "annotations" / f"person_keypoints_{split}.json", what)


def lvis(root):
    """Addresses in place of names, no crowds, and its own keys."""
    for split, first in (("train", 0), ("val", 6)):
        what = content(6 if first == 0 else 2, info={}, licenses=[])
        for one in what["images"]:
            number = first + one["id"]
            one["coco_url"] = f"http://images.cocodataset.org/train2017/{number:012}.jpg"
            one |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
            del one["file_name"]
            save_images(root, [f"train2017/{number:012}.jpg"], number)
        for one in what["annotations"]:
            del one["iscrowd"]
        save_json(root / f"lvis_v1_{split}.json", what)


def roboflow(root):
    """A folder for each split, with the file beside the images, and a category 0 that nothing has."""
    for split, first, number in (("train", 0, 6), ("valid", 6, 2), ("test", 8, 2)):
        what = content(number)
        what["categories"].insert(0, {"id": 0, "name": "plants", "supercategory": "none"})
        for one in what["images"]:
            one["file_name"] = f"{one['id']}_png.rf.0a1b2c{first}.jpg"
            one["extra"] = {"name": "x"}
        save_images(root / split, [one["file_name"] for one in what["images"]], first)
        save_json(root / split / "_annotations.coco.json", what)


def cvat(root):
    """A file for each subset, images in folders of subsets, run lengths for masks, attributes."""
    for split, first in (("Train", 0), ("Validation", 6)):
        what = content(6 if first == 0 else 2)
        for one in what["annotations"]:
            one |= {"segmentation": run_lengths(square()), "attributes": {"occluded": False}}
        save_images(root / "images" / split, [one["file_name"] for one in what["images"]], first)
        save_json(root / "annotations" / f"instances_{split}.json", what)


def label_studio(root):
    """One file; names with a folder of Windows and a hash, which the images of the owner do not have."""
    what = content(8)
    for index, one in enumerate(what["images"]):
        one["file_name"] = f"images\\{index:08x}-{index}.png"
    save_images(root / "mine", [f"{index}.png" for index in range(8)])
    save_json(root / "result.json", what)


def labelme(root):
    """One file; images beside it, names with a folder of the converter's."""
    what = content(8, folder="JPEGImages/", type="instances")
    save_images(root / "pictures", [f"{index}.png" for index in range(8)])
    save_json(root / "annotations.json", what)


def in_sub_folders(root):
    what = content(8)
    for one in what["images"]:
        one["file_name"] = f"{'ab'[one['id'] % 2]}/{one['file_name']}"
    save_images(root / "images", [one["file_name"] for one in what["images"]])
    save_json(root / "labels" / "coco.json", what)


def names_alone_for_images_in_sub_folders(root):
    what = content(8)
    save_images(root / "images", [f"{'ab'[one['id'] % 2]}/{one['file_name']}" for one in what["images"]])
    save_json(root / "labels" / "coco.json", what)


TOOLS = [
    coco_as_by_its_authors,
    lvis,
    roboflow,
    cvat,
    label_studio,
    labelme,
    in_sub_folders,
    names_alone_for_images_in_sub_folders,
]


@pytest.mark.parametrize("write", TOOLS, ids=lambda write: write.__name__)
@pytest.mark.filterwarnings("ignore:.*those of val serve")
def test_what_tools_call_coco_is_read_without_a_word(tmp_path, write):
    write(tmp_path)
    splits = CocoSource(str(tmp_path)).splits()
    check_sources(splits)
    distinct = {id(images): images for images in splits.values()}.values()
    assert sum(map(len, distinct)) == (10 if write is roboflow else 8)
    for images in distinct:
        for index in range(len(images)):
            sample = images.read(index)
            assert sample.size == SIZE
            assert set(sample.category) <= {"leaf", "stem"}
            assert sample.masks().flatten(1).any(1).all()
    if write in (coco_as_by_its_authors, lvis, roboflow, cvat):
        assert len(splits["train"]) == 6
        assert len(splits["val"]) == 2


def test_files_of_splits_may_be_named(tmp_path):
    roboflow(tmp_path)
    files = {"train": "test/_annotations.coco.json", "val": "valid/_annotations.coco.json"}
    with pytest.warns(UserWarning, match="those of val serve"):
        splits = CocoSource(str(tmp_path), **files).splits()
    assert [name.split("/")[0] for name in splits["train"].ids] == ["test"] * 2
    one = CocoSource(str(tmp_path), annotations="train/_annotations.coco.json").splits()
    assert sum(map(len, one.values())) == 6
    with pytest.raises(InputError, match=r"data\.train=no\.json: no such file"):
        CocoSource(str(tmp_path), train="no.json").splits()
    with pytest.raises(InputError, match=r"data\.train=\.\./a\.json: leads out of data\.root"):
        CocoSource(str(tmp_path), train="../a.json").splits()


def test_several_files_that_say_nothing_are_listed(tmp_path):
    make_coco(tmp_path, json_name="a.json")
    make_coco(tmp_path, json_name="b.json")
    with pytest.raises(InputError, match=r"2 COCO files \(a\.json, b\.json\).*data\.annotations=\.\.\."):
        CocoSource(str(tmp_path)).splits()


def test_a_group_is_in_one_split_only(tmp_path):
    what = content()
    for one in what["images"]:
        one["patient"] = one["id"] // 2
        one["file_name"] = f"p{one['patient']}_{one['file_name']}"
    make_coco(tmp_path, what)
    for options in ({"group_key": "patient"}, {"group_pattern": r"p(\d+)_"}):
        splits = CocoSource(str(tmp_path), **options).splits()
        seen = [{images.group(index) for index in range(len(images))} for images in splits.values()]
        assert len(seen) == 3
        assert sum(map(len, seen)) == len(set.union(*seen)) == 6
    with pytest.raises(InputError, match=r"data\.group_key=slide: 10 images of .* have none"):
        CocoSource(str(tmp_path), group_key="slide").splits()


def test_a_worker_holds_no_object_per_annotation(tmp_path):
    """Arrays are shared between processes; each Python object that a worker looks at is copied page after page."""
    counts = []
    for number in (100, 1000):
        save_json(tmp_path / f"{number}.json", content(number))
        save_images(tmp_path, ["0.png"])
        images = everything(tmp_path, annotations=f"{number}.json", check=False)
        images.faults.clear()  # of the images that are not there
        counts.append(sum(1 for _ in pickletools.genops(pickle.dumps(images, protocol=4))))
    assert abs(counts[1] - counts[0]) < 10


@THEIRS
def test_samples_follow_a_run_length_file_of_real_images_to_the_letter(tmp_path):
    root = SHARED / "data" / "fruits_nuts"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    what = json.loads((root / "annotations_coco.json").read_text())
    theirs = COCO(root / "annotations_coco.json")
    for one in what["annotations"]:
        one["segmentation"] = compressed(theirs.annToMask(one).astype(bool))
    save_json(tmp_path / "a.json", what)
    (tmp_path / "images").mkdir()
    for path in (root / "images").iterdir():
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    ours, polygons = everything(tmp_path), everything(root)
    assert list(ours.ids) == list(polygons.ids)
    for index in range(len(ours)):
        assert torch.equal(ours.read(index).masks(), polygons.read(index).masks())


def test_an_upright_image_with_a_turned_tag_has_the_size_that_tools_show(tmp_path):
    what = content(1)
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((SIZE[1], SIZE[0], 3), np.uint8)).save(tmp_path / "images" / "0.png", exif=exif)
    save_json(tmp_path / "a.json", what)
    assert everything(tmp_path).read(0).size == SIZE
