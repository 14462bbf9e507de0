"""LabelMe's files, as LabelMe writes them."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.labelme.source import LabelMeSource
from sam_train.data.sources.recognizing import recognize
from sam_train.errors import FileError, InputError
from tests.data.sources.folders import picture

SIZE = (12, 16)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(kind, points, label="leaf", group=None, **more):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **more}


POLYGON = shape("polygon", [[2, 1], [6, 1], [6, 5], [2, 5]])
PIECES = [
    shape("polygon", [[8, 0], [10, 0], [10, 2], [8, 2]], "stem", 4),
    shape("rectangle", [[8, 4], [10, 6]], "stem", 4),
]
CIRCLE = shape("circle", [[12.5, 8.5], [14.5, 8.5]])
MASK = shape("mask", [[1, 7], [3, 9]], mask=png(np.array([[255, 0, 255]] * 3, np.uint8)))
LINE = shape("linestrip", [[0, 0], [5, 5]])
SHAPES = [POLYGON, *PIECES, LINE, CIRCLE, MASK]


def write(root, name="a", shapes=SHAPES, image=True, **more):
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name.rpartition('/')[2]}.png"}
    content |= {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}
    path = root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    if image:
        Image.fromarray(picture(SIZE, seed=sum(map(ord, name)))).save(path.with_suffix(".png"))
    return path


def everything(root, **options):
    return LabelMeSource(str(root), split=(0, 0, 1), **options).splits()["test"]


def test_polygons_rectangles_circles_and_masks_are_objects(tmp_path):
    write(tmp_path)
    images = everything(tmp_path)
    check_sources({"test": images})
    sample = images.read(0)
    assert sample.category == ("leaf", "stem", "leaf", "leaf")
    expected = np.zeros((4, *SIZE), bool)
    expected[0, 1:5, 2:6] = True
    expected[1, 0:2, 8:10] = expected[1, 4:6, 8:10] = True  # of one group
    rows, columns = np.mgrid[:12, :16]
    expected[2] = (columns - 12) ** 2 + (rows - 8) ** 2 <= 4
    expected[3, 7:10, [1, 3]] = True
    np.testing.assert_array_equal(sample.masks().numpy(), expected)
    assert torch.equal(sample.image, torch.from_numpy(picture(SIZE, seed=97)).permute(2, 0, 1))
    assert everything(tmp_path, categories=["stem"]).read(0).category == ("stem",)


def test_the_image_in_the_file_is_used_where_its_own_is_not_there(tmp_path):
    write(tmp_path, image=False, imageData=png(picture(SIZE)))
    images = everything(tmp_path)
    check_sources({"test": images})
    assert torch.equal(images.read(0).image, torch.from_numpy(picture(SIZE)).permute(2, 0, 1))
    Image.fromarray(picture(SIZE, 1)).save(tmp_path / "a.png")
    assert torch.equal(images.read(0).image, torch.from_numpy(picture(SIZE, 1)).permute(2, 0, 1))


def test_folders_of_splits_and_annotations_beside_images_are_found(tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path, f"{split}/json/a", imagePath=r"..\images\a.png", image=False)
        (tmp_path / split / "images").mkdir()
        Image.fromarray(picture(SIZE)).save(tmp_path / split / "images" / "a.png")
    splits = LabelMeSource(str(tmp_path)).splits()
    assert {name: list(images.ids) for name, images in splits.items()} == {
        "train": ["train/json/a"], "val": ["valid/json/a"], "test": ["test/json/a"],
    }  # fmt: skip
    check_sources(splits)
    (found,) = recognize(tmp_path)
    assert found.words == ("data=labelme",)
    assert found.what == "LabelMe annotations, 3 files"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"imagePath": "/etc/a.png"}, "name leads out of the data root .*imagePath is /etc/a.png"),
        ({"imagePath": "../../a.png"}, r"name leads out of the data root .*imagePath is \.\./\.\./a.png"),
        ({"imagePath": "b.png"}, "missing image .* and no image in the file itself"),
        ({"imagePath": "b.png", "imageData": "?"}, "missing image .* and no image in the file itself"),
        ({"imageHeight": 13}, "size mismatch .*12 x 16, but .* says 13 x 16"),
        ({"shapes": [shape("polygon", [[1, 1], [5, 5]])]}, "polygon without area .*leaf: a polygon of 2 points"),
        ({"shapes": [shape("circle", [[1, 1]])]}, "shape without points .*a circle of 1 points"),
        ({"shapes": [shape("rectangle", [[1, 1], [2]])]}, "shape without points .*no pairs of numbers"),
        ({"shapes": [shape("ellipse", [[1, 1], [5, 5]])]}, r"unknown shape .*shape 0 \(leaf\) is a ellipse"),
        ({"shapes": [{**POLYGON, "label": ""}]}, "shape without label .*shape 0 has no label"),
        ({"shapes": [{**MASK, "mask": "no base64"}]}, "damaged mask .*no image in base64"),
        ({"shapes": [{**MASK, "points": [[14, 7], [16, 9]]}]}, "mask of another image .*a mask of 3 x 3"),
        ({"shapes": 5}, "no LabelMe file .*no list of shapes"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_remedy(tmp_path, changes, words):
    path = write(tmp_path / "data", **changes)
    write(tmp_path / "data", "b", image=False, imageData=png(picture(SIZE)))
    with pytest.raises(InputError) as error:
        check_sources({"test": everything(tmp_path / "data")})
    assert str(path) in str(error.value)
    assert re.search(f"(?s){words}", str(error.value)), error.value


def test_a_file_that_is_cut_short_and_a_folder_without_any_are_named(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match=rf"damaged JSON: {path}: no complete JSON"):
        everything(tmp_path).read(0)
    path.write_text("{}")
    with pytest.raises(InputError, match="none of its 1 JSON files is LabelMe's"):
        everything(tmp_path)
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    write(tmp_path, "c", image=False, imagePath="link.png")
    with pytest.raises(FileError, match="name leads out of the data root"):
        everything(tmp_path).read(0)
