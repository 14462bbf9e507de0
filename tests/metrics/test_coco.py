"""AP and AR against pycocotools on files, and against small cases by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_train.metrics.coco import PredictedMask, TrueMask, score_detections
from sam_train.metrics.rle import encode_crop, encode_mask

SIZE = 120


def rectangle(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def rle(*place: int):
    return encode_mask(rectangle(*place))


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans(), fill=st.booleans()))
def test_masks_are_encoded_as_pycocotools_does(mask):
    for margins in (((0, 0), (0, 0)), ((1, 2), (3, 0))):
        whole = np.pad(mask, margins)
        expected = mask_utils.encode(np.asfortranarray(whole.astype(np.uint8)))
        found = encode_mask(whole)
        assert (found["size"], found["counts"]) == (expected["size"], expected["counts"].decode())
        assert encode_crop(mask, (margins[0][0], margins[1][0]), whole.shape) == found


def scene() -> tuple[list[PredictedMask], list[TrueMask]]:
    """Five images of small, medium and large objects of two categories, crowds, misses and false alarms."""
    rng = np.random.default_rng(0)
    found, true = [], []
    for image in "abcde":
        for number in range(6):
            top, left = rng.integers(0, 15, 2)
            height, width = rng.integers((8, 40, 97)[number % 3], (30, 90, 103)[number % 3], 2)
            is_crowd = bool(image == "b" and number == 1)
            category = str(rng.choice(["cat", "dog"]))
            true.append(TrueMask(image, rle(top, left, height, width), category, is_crowd=is_crowd))
            for _ in range(2):
                place = np.maximum(np.add([top, left, height, width], rng.integers(-4, 5, 4)), (0, 0, 1, 1))
                score = float(rng.random())
                found.append(PredictedMask(image, rle(*place), score, str(rng.choice(["cat", "dog"]))))
    return found, true


def by_files(found: list[PredictedMask], true: list[TrueMask], folder: Path, use_categories: bool) -> COCOeval:
    categories = {"cat": 1, "dog": 2}
    images = {name: number for number, name in enumerate("abcde", start=1)}

    def entry(mask):
        return {"image_id": images[mask.image], "category_id": categories[mask.category], "segmentation": mask.rle}

    truth = {
        "images": [{"id": number, "height": SIZE, "width": SIZE} for number in images.values()],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            entry(mask) | {"id": number, "iscrowd": int(mask.is_crowd), "area": float(mask_utils.area(mask.rle))}
            for number, mask in enumerate(true, start=1)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps([entry(mask) | {"score": mask.score} for mask in found]))
    side = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(side, side.loadRes(str(folder / "found.json")), "segm")
    evaluation.params.useCats = int(use_categories)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("by_category", [True, False])
def test_equals_pycocotools_on_files_and_says_nothing(by_category, tmp_path, capsys):
    found, true = scene()
    expected = by_files(found, true, tmp_path, by_category).stats
    capsys.readouterr()
    scores = score_detections(found, true, by_category=by_category)
    assert capsys.readouterr() == ("", "")
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR@1", "AR@10", "AR@100")
    assert tuple(scores) == names
    assert list(scores.values()) == pytest.approx(expected[: len(names)])
    assert 0 < scores["AP"] < scores["AP50"] < 1


def test_one_mask_of_iou_082_is_right_at_seven_of_ten_thresholds():
    true = [TrueMask("a", rle(0, 0, 10, 100))]
    scores = score_detections([PredictedMask("a", rle(0, 0, 10, 82), 0.9)], true)
    assert [scores[name] for name in ("AP", "AP_small", "AR@1", "AR@100")] == pytest.approx([0.7] * 4)
    assert [scores[name] for name in ("AP50", "AP75")] == pytest.approx([1, 1])
    assert [scores[name] for name in ("AP_medium", "AP_large")] == [None, None]


def test_one_of_two_found_is_precise_up_to_half_the_recall():
    true = [TrueMask("a", rle(0, 0, 20, 20)), TrueMask("a", rle(50, 50, 20, 20))]
    scores = score_detections([PredictedMask("a", rle(0, 0, 20, 20), 0.9)], true)
    assert scores["AP"] == pytest.approx(51 / 101)  # at recalls 0, 0.01 ... 0.5
    assert scores["AR@10"] == 0.5


def test_a_mask_on_an_image_without_objects_is_a_false_alarm():
    true = [TrueMask("a", rle(0, 0, 20, 20))]
    right = PredictedMask("a", rle(0, 0, 20, 20), 0.5)
    assert score_detections([right], true)["AP"] == pytest.approx(1)
    assert score_detections([right, PredictedMask("b", rle(0, 0, 20, 20), 0.9)], true)["AP"] == pytest.approx(0.5)


def test_masks_inside_a_crowd_are_neither_right_nor_wrong():
    true = [TrueMask("a", rle(0, 0, 20, 20)), TrueMask("a", rle(40, 0, 60, 60), is_crowd=True)]
    right, inside = PredictedMask("a", rle(0, 0, 20, 20), 0.5), PredictedMask("a", rle(50, 10, 20, 20), 0.9)
    assert score_detections([right, inside], true)["AP"] == pytest.approx(1)


def test_area_and_category_are_the_truths_own():
    true = [TrueMask("a", rle(0, 0, 20, 20), "cat", area=5000.0)]
    scores = score_detections([PredictedMask("a", rle(0, 0, 20, 20), 0.5, "cat")], true)
    assert (scores["AP_small"], scores["AP_medium"]) == (None, pytest.approx(1))
    of_another_kind = [PredictedMask("a", rle(0, 0, 20, 20), 0.5, "dog")]
    assert score_detections(of_another_kind, true)["AP"] == 0
    assert score_detections(of_another_kind, true, by_category=False)["AP"] == pytest.approx(1)


def test_recall_of_automatic_masks_counts_up_to_a_thousand():
    places = [(top, left, 3, 3) for top in range(0, SIZE, 10) for left in range(0, SIZE, 10)]
    true = [TrueMask("a", rle(*place)) for place in places]
    found = [PredictedMask("a", rle(*place), 0.5) for place in places]
    scores = score_detections(found, true, max_detections=(1000, 10))
    assert (len(places), scores["AR@1000"], scores["AR@10"]) == (144, 1, pytest.approx(10 / 144))
    assert list(scores)[-2:] == ["AR@10", "AR@1000"]


def test_nothing_found_scores_zero_and_nothing_to_find_none():
    true = [TrueMask("a", rle(0, 0, 20, 20))]
    assert score_detections([], true)["AP"] == 0
    assert score_detections([PredictedMask("a", rle(0, 0, 20, 20), 0.5)], [])["AP"] is None
