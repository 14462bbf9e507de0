"""Boxes and points that came with the data reach the objects they are about, whichever objects are read."""

import json

import numpy as np
import pytest
import torch

from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.npz.source import NpzSource
from sam_train.errors import FileError, InputError
from sam_train.structures import PointLabel
from tests.data.sources.coco_files import SIZE, annotation, content, make_coco
from tests.data.sources.folders import make_folder, picture, two_objects

BOX = [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]
EVERYTHING = {"split": (0, 0, 1)}


def only(source):
    return source.splits()["test"]


def told(sample):
    """The prompts of each object: corners of its box and points with their labels."""
    if sample.prompts is None:
        return [[] for _ in sample.value]
    rows = zip(sample.prompts.points.tolist(), sample.prompts.labels.tolist(), strict=True)
    return [[(*place, kind) for place, kind in zip(*row, strict=True) if kind != PointLabel.EMPTY] for row in rows]


def boxed(x0, y0, x1, y1):
    return [(x0, y0, BOX[0]), (x1, y1, BOX[1])]


def keypoints():
    what = content(1)
    what["annotations"][0]["keypoints"] = [3, 2, 2, 4, 3, 1, 0, 0, 0, 5, 4, 2]  # seen, hidden, not there, seen
    what["annotations"][0]["num_keypoints"] = 3
    return what


def test_boxes_and_visible_keypoints_of_annotations_are_given(tmp_path):
    root = make_coco(tmp_path, keypoints())
    seen = [(3, 2, PointLabel.OBJECT), (5, 4, PointLabel.OBJECT)]
    square, other = boxed(2, 1, 6, 5), boxed(2, 1, 6, 5)
    expected = {"boxes": [square, other], "keypoints": [seen, []], "both": [[*square, *seen], other]}
    for kind, prompts in expected.items():
        images = only(CocoSource(str(root), given=kind, **EVERYTHING))
        assert told(images.read(0)) == prompts
        assert told(images.read(0, lambda shares: torch.tensor([1]))) == prompts[1:]
    with pytest.raises(InputError, match=r"data\.given=box: expected one of boxes, keypoints, both"):
        only(CocoSource(str(root), given="box"))


def test_boxes_that_are_none_are_not_given(tmp_path):
    what = content(1)
    what["annotations"][0]["bbox"] = [2, 1, 0, 4]
    what["annotations"][1]["bbox"] = None
    what["annotations"].append(annotation(9, 5, bbox=[1, 1, 3, 3]))
    assert told(only(CocoSource(str(make_coco(tmp_path, what)), **EVERYTHING)).read(0)) == [[], [], boxed(1, 1, 4, 4)]


@pytest.mark.parametrize("named", ["id", "file name", "csv"])
def test_a_detectors_boxes_belong_to_the_objects_they_overlap(tmp_path, named):
    root = make_coco(tmp_path, content(2))
    found = [([1, 1, 5, 4], 0.9), ([2, 1, 4, 4], 0.5), ([8, 2, 4, 5], 0.8), ([0, 0, 16, 12], 0.7)]
    if named == "id":
        rows = [{"image_id": 5, "category_id": 3, "bbox": box, "score": score} for box, score in found]
        (root / "boxes.json").write_text(json.dumps(rows))
    elif named == "file name":
        rows = [[x, y, x + width, y + height] for (x, y, width, height), _ in found]
        (root / "boxes.json").write_text(json.dumps({"0.png": rows}))
    else:
        rows = [f"images/0.png,{x},{y},{x + width},{y + height}\n" for (x, y, width, height), _ in found]
        (root / "boxes.json").with_suffix(".csv").write_text("image,x0,y0,x1,y1\n" + "".join(rows))
    file = "boxes.csv" if named == "csv" else "boxes.json"
    images = only(CocoSource(str(root), boxes=file, **EVERYTHING))
    assert told(images.read(0)) == [boxed(2, 1, 6, 5), boxed(8, 2, 12, 7)]
    assert told(images.read(0, lambda shares: torch.tensor([1]))) == [boxed(8, 2, 12, 7)]
    assert told(images.read(1)) == [[]]  # the detector found nothing: the annotation's box is not taken instead


def test_files_of_a_folder_give_boxes_and_clicks_together(tmp_path):
    root = make_folder(tmp_path, {"a": two_objects(), "b/c": two_objects()})
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\na.png,1,1,5,4\nb/c,6,6,9,8\n")
    (root / "points.json").write_text(
        json.dumps({"a": [[7, 7], [0, 0]], "c": [{"points": [[2, 2], [4, 3], [9, 9]], "labels": [1, 1, 0]}]})
    )
    images = only(FolderSource(str(root), boxes="boxes.csv", points="points.json", **EVERYTHING))
    clicks = [(2, 2, 1), (4, 3, 1), (9, 9, 0)]
    assert told(images.read(0)) == [boxed(1, 1, 5, 4), [(7, 7, 1)]]
    assert told(images.read(1)) == [clicks, boxed(6, 6, 9, 8)]
    with pytest.raises(InputError, match=r"data\.boxes=\.\./boxes\.csv: leads out of"):
        only(FolderSource(str(root), boxes="../boxes.csv"))
    (root / "other.csv").write_text("image,x0,y0,x1,y1\nz.png,1,1,5,4\n")
    with pytest.raises(InputError, match=r"is of none of the 2 images; it names z\.png"):
        only(FolderSource(str(root), boxes="other.csv"))


def test_boxes_of_an_npz_file_are_its_labels_in_order(tmp_path):
    labels = np.stack([two_objects(), two_objects() * (two_objects() == 3)])
    flat = [[1, 1, 4, 3], [6, 6, 8, 7]]
    np.savez(tmp_path / "a.npz", imgs=picture(), gts=two_objects(), boxes=np.array(flat))
    solid = [[1, 1, 0, 4, 3, 1], [6, 6, 0, 8, 7, 0]]
    np.savez(tmp_path / "b.npz", imgs=np.stack([picture()[..., 0]] * 2), gts=labels, boxes=np.array(solid))
    images = only(NpzSource(str(tmp_path), **EVERYTHING))
    both = [boxed(1, 1, 4, 3), boxed(6, 6, 8, 7)]
    assert [told(images.read(index)) for index in range(3)] == [both, both, both[:1]]
    pieces = only(NpzSource(str(tmp_path), objects="components", **EVERYTHING))
    assert told(pieces.read(0)) == both  # by what they overlap
    np.savez(tmp_path / "a.npz", imgs=picture(), gts=two_objects(), boxes=np.array([*flat, [0, 0, 1, 1]]))
    assert told(only(NpzSource(str(tmp_path), **EVERYTHING)).read(0)) == both
    for boxes, words in (([[1, 2, 3]], "boxes are int64 of"), ([[4, 1, 1, 3]], "a box ends before it begins")):
        np.savez(tmp_path / "a.npz", imgs=picture(), gts=two_objects(), boxes=np.array(boxes))
        with pytest.raises(FileError, match=rf"no boxes: .*a\.npz: {words}"):
            only(NpzSource(str(tmp_path), **EVERYTHING)).read(0)


def test_crowds_and_images_of_another_size_do_not_disturb(tmp_path):
    what = content(1)
    what["annotations"][1]["iscrowd"] = 1
    sample = only(CocoSource(str(make_coco(tmp_path, what)), **EVERYTHING)).read(0)
    assert sample.keep(~sample.crowd).prompts.points.tolist() == [[[2, 1], [6, 5]]]
    assert sample.size == SIZE
