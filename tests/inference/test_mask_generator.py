"""Masks of everything: what does not depend on how the work is cut, and the forms that records have."""

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from sam_train.errors import InputError
from sam_train.inference import mask_generator
from sam_train.inference.mask_filters import count_pixels, mask_boxes
from sam_train.inference.mask_generator import Everything, MaskGenerator
from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build

LOOSE = {"points_per_side": 4, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.05, "box_nms_thresh": 0.9}


@pytest.fixture(scope="module", params=["sam", "sam2"])
def predictor(request):
    return Predictor(build(CONFIG if request.param == "sam" else SAM2_CONFIG))


def image(height=70, width=100):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def found(predictor, **changes):
    return MaskGenerator(predictor, Everything(**{**LOOSE, **changes})).generate(image())


def test_nothing_depends_on_how_many_points_are_decoded_at_once(predictor, monkeypatch):
    whole = found(predictor, box_nms_thresh=1.0)
    monkeypatch.setattr(mask_generator, "PIXELS_AT_ONCE", 1)
    parts = found(predictor, points_per_batch=3, box_nms_thresh=1.0)
    assert len(whole) > 3
    assert len(parts) == len(whole)
    assert int((parts.masks.masks() ^ whole.masks.masks()).flatten(1).sum(1).max()) <= 2  # that rounding flips


@pytest.mark.parametrize(
    "changes", [{}, {"crop_n_layers": 1}, {"use_m2m": True}, {"multimask_output": False}, {"min_mask_region_area": 30}]
)
def test_what_a_record_says_is_true_of_its_mask(predictor, changes):
    masks = found(predictor, **changes)
    dense = masks.masks.masks()
    assert torch.equal(mask_boxes(dense), masks.boxes)
    for record, mask in zip(masks.records(), dense.numpy(), strict=True):
        assert record["area"] == mask.sum()
        assert (record["segmentation"] == mask).all()
        x, y, width, height = record["bbox"]
        assert not mask[:y].any()
        assert mask[y : y + height + 1, x : x + width + 1].sum() == mask.sum()
        ((px, py),) = record["point_coords"]
        left, top, wide, high = record["crop_box"]
        assert left <= px <= left + wide
        assert top <= py <= top + high


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_records_are_the_same_in_each_form(predictor):
    masks = found(predictor)
    dense, coco = masks.records(), masks.records("coco_rle")
    for one, other in zip(dense, coco, strict=True):
        assert (mask_utils.decode(other["segmentation"]) == one["segmentation"]).all()
        assert {key: one[key] for key in one if key != "segmentation"} == {
            key: other[key] for key in other if key != "segmentation"
        }


def test_an_image_without_anything_has_no_records(predictor):
    assert found(predictor, pred_iou_thresh=1e9).records() == []
    assert found(predictor, pred_iou_thresh=1e9, crop_n_layers=1, min_mask_region_area=9).records("coco_rle") == []


def test_small_regions_are_gone(predictor):
    from sam_train.inference.regions import region_areas

    dense = found(predictor, min_mask_region_area=30).masks.masks()
    for mask in dense:
        islands, holes = region_areas(mask[None])[0], region_areas(~mask[None])[0]
        assert int(islands[mask].unique().min()) >= min(30, int(mask.sum()))
        assert not mask.all() or not holes.any()


def test_specks_of_the_logits_are_cleaned_where_the_predictor_is_to(predictor):
    cleaning = Predictor(predictor.model, Cleaning(max_hole_area=9, max_sprinkle_area=9))
    plain, cleaned = found(predictor), found(cleaning)
    assert plain.masks.areas().tolist() != cleaned.masks.areas().tolist()


def test_pixels_are_counted_whatever_the_size():
    masks = torch.rand(3, 700, 20, generator=torch.Generator().manual_seed(0)) > 0.1
    assert count_pixels(masks).tolist() == masks.sum((1, 2)).tolist()


def test_settings_out_of_range_are_named():
    with pytest.raises(InputError, match=r"grid\.points_per_side=0"):
        Everything(points_per_side=0)
