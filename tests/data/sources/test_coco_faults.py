"""Each fault of a COCO file is named with its record and a remedy, and nothing outside the root is read."""

import json

import pytest

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.coco.source import CocoSource
from sam_train.errors import FileError, InputError
from tests.data.sources.coco_files import (
    SIZE,
    annotation,
    compressed,
    content,
    make_coco,
    run_lengths,
    save_images,
    square,
)

ALL = (0, 0, 1)


def checked(root, **options):
    check_sources(CocoSource(str(root), split=ALL, **options).splits())


def with_outline(outline):
    what = content()
    what["annotations"][0] = annotation(100, 5, outline)
    return what


OUTLINES = {
    "a polygon of 2 points": [[1, 1, 3, 3]],
    "a polygon of 3 points and half a point": [[1, 1, 3, 3, 3, 1, 2]],
    "far outside its image of 12 x 16": [[1, 1, 3000, 3, 3, 1]],
    "has no segmentation": [],
    "run lengths of 10 x 10, but its image is 12 x 16": compressed(square()[:10, :10]),
    "run lengths of 9 x 9, but its image is 12 x 16": {"size": [9, 9], "counts": [81]},
    "add up to 191 pixels of 192": {"size": list(SIZE), "counts": [100, 91]},
    "add up to 1002 pixels of 192": {"size": list(SIZE), "counts": "000000000000Z0Po0"},
    "are no text of COCO's": {"size": list(SIZE), "counts": "\x01\x02"},
    "larger than any image": {"size": list(SIZE), "counts": "ooooooooooo0"},
    "neither a list of polygons nor run lengths": "a string",
}


@pytest.mark.parametrize("found", OUTLINES)
def test_an_outline_that_is_none_is_named(tmp_path, found):
    make_coco(tmp_path, with_outline(OUTLINES[found]))
    with pytest.raises(InputError, match=r"the data has 1 problem") as error:
        checked(tmp_path)
    assert "annotations.json: annotation 100 of images/0.png: " in str(error.value)
    assert found in str(error.value)
    images = CocoSource(str(tmp_path), split=ALL, check=False).splits()["test"]
    with pytest.raises(FileError, match=r"annotation 100 of images/0\.png"):
        images.read(0)


def test_points_that_are_no_numbers_are_named(tmp_path):
    make_coco(tmp_path, with_outline([[1, 1, float("nan"), 3, 3, 1]]))
    with pytest.raises(InputError, match=r"annotation 100 of images/0\.png: a point of its polygon is no number"):
        checked(tmp_path)


RECORDS = {
    "id 5 is 0.png and again.png": lambda what: what["images"].append({"id": 5, "file_name": "again.png"}),
    "0.png has the ids 5 and 99": lambda what: what["images"].append({"id": 99, "file_name": "0.png"}),
    "annotation 9 is of image 77, which is not listed": lambda what: what["annotations"].append(annotation(9, 77)),
    "annotation 9 has category 55, which is not listed": lambda what: what["annotations"].append(
        annotation(9, 5, category=55)
    ),
}


@pytest.mark.parametrize("found", RECORDS)
@pytest.mark.filterwarnings("ignore:.*have no object")
def test_a_record_that_belongs_nowhere_is_named(tmp_path, found):
    what = content()
    RECORDS[found](what)
    make_coco(tmp_path, what)
    with pytest.raises(InputError) as error:
        checked(tmp_path)
    assert f"annotations.json: {found}" in str(error.value)
    with pytest.raises(FileError):  # and not left out in silence where nobody checks
        CocoSource(str(tmp_path), split=ALL, check=False).splits()


@pytest.mark.parametrize("name", ["/etc/0.png", "../0.png", "a/../../0.png", "C:\\data\\0.png", "~/0.png"])
def test_names_that_lead_out_of_the_root_are_refused(tmp_path, name):
    root = tmp_path / "root"
    make_coco(root)
    save_images(tmp_path, ["0.png"])
    what = content()
    what["images"][0]["file_name"] = name
    (root / "annotations.json").write_text(json.dumps(what))
    with pytest.raises(InputError, match=r"name leads out of the data root \(1\)"):
        checked(root)
    images = CocoSource(str(root), split=ALL, check=False).splits()["test"]
    for ask in (images.read, images.identity, images.fingerprint):
        with pytest.raises(FileError, match="is absolute or goes up"):
            ask(0)


def test_a_prefix_of_an_upload_is_left_out_on_request(tmp_path):
    what = content()
    for one in what["images"]:
        one["file_name"] = f"/data/upload/1/{one['file_name']}"
    make_coco(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps(what))
    with pytest.raises(InputError, match=r"say with data\.prefix what to leave out"):
        checked(tmp_path)
    checked(tmp_path, prefix="/data/upload/1/")


def test_links_out_of_the_root_are_followed_on_request_only(tmp_path):
    root = make_coco(tmp_path / "root")
    (root / "images" / "0.png").rename(tmp_path / "0.png")
    (root / "images" / "0.png").symlink_to(tmp_path / "0.png")
    with pytest.raises(InputError, match=r"0\.png is neither images/0\.png nor elsewhere"):
        checked(root)
    checked(root, links=True)


def test_missing_damaged_and_ambiguous_images_are_named_at_once(tmp_path):
    make_coco(tmp_path)
    (tmp_path / "images" / "0.png").unlink()
    (tmp_path / "images" / "1.png").write_bytes((tmp_path / "images" / "1.png").read_bytes()[:90])
    save_images(tmp_path, ["a/2.png", "b/2.png"])
    (tmp_path / "images" / "2.png").unlink()
    with pytest.raises(InputError, match=r"the data has 3 problem") as error:
        checked(tmp_path)
    assert "0.png is neither images/0.png nor elsewhere" in str(error.value)
    assert "images/1.png" in str(error.value)
    assert "2.png may be a/2.png or b/2.png" in str(error.value)


def test_an_image_of_another_size_is_named(tmp_path):
    what = content()
    for one in what["images"]:
        one["height"], one["width"] = SIZE[::-1]
    make_coco(tmp_path, what)
    with pytest.raises(InputError, match=r"12 x 16, but .* says 16 x 12 .*turned by a quarter"):
        checked(tmp_path)


def test_sizes_need_not_be_there(tmp_path):
    what = content()
    for one in what["images"]:
        del one["height"], one["width"]
    make_coco(tmp_path, what)
    checked(tmp_path)
    splits = CocoSource(str(tmp_path)).splits()
    assert {images.read(0).size for images in splits.values()} == {SIZE}


BROKEN = {
    "no complete JSON": json.dumps(content())[:-700],
    "holds a list": "[]",
    "has no list of annotations, but images": '{"images": [{"id": 1, "file_name": "0.png"}]}',
    "has no annotations": '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}',
    "record 0 of its images has no file_name": '{"images": [{"id": 1}], "annotations": [{"id": 1}]}',
}


@pytest.mark.parametrize("found", BROKEN)
def test_a_file_that_is_cut_short_or_something_else_is_named(tmp_path, found):
    make_coco(tmp_path)
    (tmp_path / "annotations.json").write_text(BROKEN[found])
    with pytest.raises(InputError, match=r"annotations\.json: ") as error:
        CocoSource(str(tmp_path), annotations="annotations.json").splits()
    assert found in str(error.value)
    assert "Traceback" not in str(error.value)


def test_nothing_to_train_on_is_said(tmp_path):
    what = content()
    for one in what["annotations"]:
        one["iscrowd"] = 1
    make_coco(tmp_path, what)
    with pytest.raises(InputError, match=r"none of its 10 images has an object"):
        CocoSource(str(tmp_path)).splits()
    with pytest.raises(InputError, match=r"no COCO file below it"):
        CocoSource(str(tmp_path / "images")).splits()


def test_outlines_without_a_pixel_are_a_notice(tmp_path):
    what = content()
    what["annotations"].append(annotation(9, 5, run_lengths(square() & False)))
    make_coco(tmp_path, what)
    with pytest.warns(UserWarning, match=r"outlines without a pixel \(1 of 10\)"):
        checked(tmp_path)
