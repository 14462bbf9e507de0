"""Prompts from masks: equal to SAM 2's where those are fixed, uniform where they are random."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.ndimage import distance_transform_edt
from torchvision.ops import masks_to_boxes

from sam_train.preprocessing import downscale_masks
from sam_train.prompts.sampling import (
    error_centers,
    interior_points,
    jitter_boxes,
    random_error_points,
    random_points,
    rough_masks,
    squared_edge_distance,
)
from tests.parity.reference import ROOT, needs_reference


def golden():
    folder = ROOT / "prompt_sampling"
    return json.loads((folder / "golden.json").read_text()), load_file(folder / "golden.safetensors")


def random_masks(num_objects: int, height: int, width: int, seed: int = 0, threshold: float = 0.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_objects, 1, 7, 7, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0] > threshold


@needs_reference
def test_error_centers_are_sam2s():
    cases, tensors = golden()
    assert len(cases["error_center"]) == 14
    for case in cases["error_center"]:
        truth = tensors[case["target"]].bool()[None]
        prediction = case["prediction"]
        predicted = torch.zeros_like(truth) if prediction is None else tensors[prediction].bool()[None]
        point, is_missed = error_centers(truth, predicted)
        assert (point[0].tolist(), int(is_missed[0])) == (case["padding"]["point_xy"], case["padding"]["label"]), case


@needs_reference
def test_boxes_and_their_noise_are_sam2s():
    cases, tensors = golden()
    present = [case for case in cases["box_from_mask"] if case["name"] != "empty"]
    assert len(present) >= 5
    for case in present:
        height, width = case["size"]
        bits = np.unpackbits(tensors[case["mask"]].numpy())[: height * width]
        mask = torch.from_numpy(bits).bool().view(1, height, width)
        box = masks_to_boxes(mask)
        assert box[0].tolist() == case["box_xyxy"]
        lowest, highest = (jitter_boxes(box, case["noise_fraction"], torch.full((1, 4), u), 1024) for u in (0.0, 1.0))
        free = [index for index, low in enumerate(case["lowest"]) if low > 0]  # not held by the frame's edge
        np.testing.assert_allclose(lowest[0][free], np.array(case["lowest"])[free], atol=1e-4)
        inner = [index for index, high in enumerate(case["highest"]) if high < case["size"][1 - index % 2] - 1]
        np.testing.assert_allclose(highest[0][inner], np.array(case["highest"])[inner], atol=1e-4)


def test_noise_is_at_most_20_of_1024_pixels_and_stays_in_the_frame():
    box = torch.tensor([[0.0, 10.0, 1000.0, 1020.0]])
    moved = jitter_boxes(box, 0.1, torch.tensor([[0.0, 1.0, 1.0, 1.0]]), 1024)
    assert moved.tolist() == [[0.0, 30.0, 1020.0, 1023.0]]
    at_256 = jitter_boxes(box / 4, 0.1, torch.tensor([[1.0, 1.0, 1.0, 0.5]]), 256)
    torch.testing.assert_close(at_256, torch.tensor([[5.0, 7.5, 255.0, 255.0]]))


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 20)])
def test_edge_distance_equals_scipy(size):
    masks = torch.cat([random_masks(5, *size), torch.ones(1, *size, dtype=torch.bool), torch.zeros(1, *size).bool()])
    expected = np.stack([distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] ** 2 for mask in masks.numpy()])
    np.testing.assert_allclose(squared_edge_distance(masks).numpy(), expected, atol=1e-9)


def test_an_interior_point_lies_in_a_hollow_object():
    y, x = torch.meshgrid(torch.arange(41), torch.arange(41), indexing="ij")
    radius = ((x - 20) ** 2 + (y - 20) ** 2).float().sqrt()
    ring = ((radius < 19) & (radius > 12))[None]
    px, py = interior_points(ring)[0].long()
    assert ring[0, py, px]


def test_every_pixel_of_a_mask_is_equally_likely():
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)[None]
    num_draws = 5000
    uniform = (torch.arange(num_draws) + 0.5) / num_draws
    points = random_points(mask.expand(num_draws, -1, -1), uniform).long()
    counts = torch.zeros(3, 4).index_put_((points[:, 1], points[:, 0]), torch.ones(num_draws), accumulate=True)
    assert torch.equal(counts, mask[0] * num_draws / 5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), uniform=st.floats(0, 1, exclude_max=True, width=32))
def test_random_error_points_lie_in_the_error_they_name(seed, uniform):
    truth, predicted = random_masks(2, 12, 17, seed)[:, None]
    point, is_missed = random_error_points(truth, predicted, torch.ones_like(truth), torch.tensor([uniform]))
    x, y = point[0].long()
    if torch.equal(truth, predicted):
        assert not is_missed
        assert not truth[0, y, x]
    else:
        assert truth[0, y, x] != predicted[0, y, x]
        assert bool(is_missed) == bool(truth[0, y, x])


def test_a_perfect_prediction_is_answered_with_background_of_the_image():
    inside = torch.arange(17).expand(1, 12, 17) < 9
    truth = random_masks(1, 12, 17) & inside
    for uniform in torch.linspace(0, 0.999, 50):
        point, is_missed = random_error_points(truth, truth, inside, uniform[None])
        x, y = point[0].long()
        assert not is_missed
        assert not truth[0, y, x]
        assert inside[0, y, x]


def test_empty_masks_give_finite_prompts():
    empty = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert masks_to_boxes(empty).tolist() == [[0, 0, 0, 0]]
    assert random_points(empty, torch.tensor([0.5])).isfinite().all()
    assert interior_points(empty).tolist() == [[0, 0]]


def test_a_rough_mask_is_right_in_place_and_wrong_along_the_edge():
    masks = random_masks(20, 128, 128)
    logits = rough_masks(masks, 32)
    assert logits.shape == (20, 1, 32, 32)
    assert logits.abs().max() <= 10
    truth = torch.nn.functional.interpolate(masks[:, None].float(), (32, 32), mode="area")[:, 0] > 0.5
    rough = logits[:, 0] > 0
    iou = ((truth & rough).sum((1, 2)) / (truth | rough).sum((1, 2))).numpy()
    assert 0.5 < np.median(iou) < 0.99


def test_rough_masks_equal_each_object_alone():
    masks = torch.cat([random_masks(3, 128, 128, seed) & squares for seed, squares in enumerate(squares_of(128))])
    together = rough_masks(masks, 32)
    assert torch.equal(together, torch.cat([rough_masks(mask[None], 32) for mask in masks]))


def squares_of(side):
    place = torch.arange(side)
    return [((place < extent)[:, None] & (place < extent))[None] for extent in (10, 40, side)]


@pytest.mark.parametrize(("side", "stride"), [(64, 2), (64, 4), (60, 15), (64, 16), (64, 32)])
def test_masks_are_downscaled_as_means_of_their_cells(side, stride):
    masks = random_masks(6, side, side)
    masks[0] = True
    masks[1] = torch.zeros(side, side)
    masks[2] = torch.zeros(side, side)
    masks[2, 5, 7] = True
    mean = torch.nn.functional.avg_pool2d(masks[:, None].double(), stride)[:, 0]
    expected = torch.where((mean >= 0.5).any((1, 2), keepdim=True), mean >= 0.5, mean > 0)
    assert torch.equal(downscale_masks(masks, side // stride), expected)
