"""Small holes and specks, as the official code removes them."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from sam_train.inference.regions import Cleaning, clean_logits, region_areas, remove_small_regions
from sam_train.preprocessing import resize_logits
from tests.parity.reference import ROOT, needs_reference, python_slice


@pytest.fixture(scope="module")
def golden():
    folder = ROOT / "mask_generator_utils"
    return json.loads((folder / "golden.json").read_text()), load_file(folder / "golden.safetensors")


@needs_reference
def test_holes_and_sprinkles_of_logits_equal_the_official_ones(golden):
    recipe, tensors = golden
    for case in recipe["image_postprocess"]:
        cleaning = Cleaning(max_hole_area=case["max_hole_area"], max_sprinkle_area=case["max_sprinkle_area"])
        found = resize_logits(clean_logits(tensors["holes/logits"], cleaning), tuple(case["size"]))
        part = found[..., python_slice(case["rows"]), python_slice(case["columns"])]
        assert_close(part, tensors[case["result"]], atol=1e-5, rtol=0)


@needs_reference
def test_small_regions_of_masks_equal_the_official_ones(golden):
    """First holes, then islands: each golden is of one of the two, so the other is made to have nothing to do."""
    recipe, tensors = golden
    mask = tensors["regions/mask"].bool()
    for case in recipe["small_regions"]:
        expected = tensors[case["result"]].bool()
        assert case["area"] == int(expected.sum())
        if case["mode"] == "islands":
            filled = tensors[f"regions/holes_{case['area_threshold']}"].bool()
            found = remove_small_regions(mask[None], case["area_threshold"])[0]
            if torch.equal(filled, mask):
                assert torch.equal(found, expected)
            # Islands are told apart in the filled mask, so their areas are at least those in the mask itself.
            assert torch.equal(found & ~filled, torch.zeros_like(mask))
        elif int(region_areas(expected[None])[expected[None]].min()) >= case["area_threshold"]:
            assert torch.equal(remove_small_regions(mask[None], case["area_threshold"])[0], expected)


def test_regions_touch_at_corners_and_not_across_masks():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[1, 0, 0] = True
    areas = region_areas(masks)
    assert areas[0, 0, 0] == areas[0, 1, 1] == 2
    assert areas[1, 0, 0] == 1
    assert int((areas > 0).sum()) == 3


def test_the_largest_island_stays_though_it_is_small():
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 0, :2] = True
    masks[0, 4, 1:4] = True
    masks[0, 2, 5] = True
    kept = remove_small_regions(masks, 10)
    assert kept.nonzero().tolist() == [[0, 4, 1], [0, 4, 2], [0, 4, 3]]
    assert not remove_small_regions(torch.zeros(1, 6, 6, dtype=torch.bool), 10).any()


def test_without_options_nothing_changes():
    logits = torch.randn(2, 3, 8, 8)
    assert clean_logits(logits, Cleaning()) is logits
