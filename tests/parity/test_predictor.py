"""The predictor returns what the official predictors and transformers' processors return."""

import numpy as np
import pytest
import torch
import transformers
from torch.testing import assert_close

from sam_train.inference.predictor import Predictor
from sam_train.inference.regions import Cleaning
from sam_train.inference.restoring import full_masks
from sam_train.models import build_model
from sam_train.preprocessing import Preprocessing
from tests.parity.reference import Reference, needs_reference, python_slice


@needs_reference
@pytest.mark.parametrize(
    ("preset", "folder"),
    [
        pytest.param("sam_vit_b", "sam_vit_b", marks=pytest.mark.slow),
        ("mobile_sam", "mobile_sam"),
        ("sam2.1_hiera_tiny", "sam2.1_hiera_t"),
    ],
)
def test_every_case_of_the_goldens_is_equal(preset, folder):
    """From the image as it is stored to masks at its size, for clicks, boxes, several boxes and refinement."""
    reference = Reference(folder)
    model = build_model(preset)
    model.load_state_dict(reference.state_dict())
    predictor = Predictor(model)
    predictor.set_image(reference.image("main").permute(1, 2, 0).numpy())
    cases = [case for case in reference.cases.values() if case["image"] == "main"]
    assert len(cases) == 13
    for case in cases:
        rough = None if case["mask_input"] is None else reference.tensors[case["mask_input"]][None]
        found = predictor.predict(
            case["point_coords"], case["point_labels"], case["box"], rough, case["multimask_output"]
        )
        low_res, (rows, columns) = reference.low_res(case)
        actual = found.logits.flatten(0, 1)[:, rows, columns]
        assert_close(actual, low_res, atol=reference.tolerance("low_res"), rtol=0)
        iou = torch.tensor(case["outputs"]["iou"]["values"])
        assert_close(found.iou.flatten(), iou, atol=reference.tolerance("iou"), rtol=0)
        masks = found.masks.flatten(0, 1)
        stored = case["outputs"]
        areas = masks.sum(dim=(1, 2)).tolist()
        for area, expected, may_flip in zip(areas, stored["mask_area"], stored["near_threshold_px"], strict=True):
            assert abs(area - expected) <= may_flip
        if "masks" in stored:
            flipped = (masks != torch.from_numpy(reference.masks(case))).sum(dim=(1, 2)).tolist()
            assert all(
                number <= may_flip for number, may_flip in zip(flipped, stored["near_threshold_px"], strict=True)
            )


@needs_reference
@pytest.mark.slow
def test_the_large_image_of_the_goldens_is_equal():
    reference = Reference("sam2.1_hiera_t")
    model = build_model("sam2.1_hiera_tiny")
    model.load_state_dict(reference.state_dict())
    predictor = Predictor(model)
    predictor.set_image(reference.image("large"))
    for name in ("large_point/multi", "large_point/single"):
        case = reference.cases[name]
        found = predictor.predict(case["point_coords"], case["point_labels"], multimask=case["multimask_output"])
        low_res, (rows, columns) = reference.low_res(case)
        actual = found.logits.flatten(0, 1)[:, rows, columns]
        assert_close(actual, low_res, atol=reference.tolerance("low_res"), rtol=0)
        if "logits" in case["outputs"]:
            stored = case["outputs"]["logits"]
            full = model.preprocessing.restore_logits(found.logits, (1501, 1103)).flatten(0, 1)
            part = full[:, python_slice(stored["rows"]), python_slice(stored["columns"])]
            inside = reference.tensors[stored["tensor"]] > 0
            assert int(((part > 0) != inside).sum()) <= sum(case["outputs"]["near_threshold_px"])


def logits(seed: int, num_objects: int, num_masks: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(num_objects, num_masks, side, side, generator=generator)


SIZES = [(60, 80), (128, 128), (33, 190), (301, 77)]


@pytest.mark.parametrize("size", SIZES)
def test_masks_at_the_images_size_are_those_of_the_processor_of_sam(size):
    preprocessing = Preprocessing(128)
    processor = transformers.SamImageProcessor(pad_size={"height": 128, "width": 128})
    given = logits(1, 4, 3, 32)
    reshaped = [preprocessing.resized_size(size)]
    (expected,) = processor.post_process_masks([given], [size], reshaped, mask_threshold=0.5)
    assert torch.equal(full_masks(given, preprocessing, size, Cleaning(threshold=0.5)), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("apart", [True, False])
def test_masks_at_the_images_size_are_those_of_the_processor_of_sam2(size, apart):
    processor = transformers.Sam2ImageProcessor()
    given = logits(2, 4, 3, 32)
    (expected,) = processor.post_process_masks([given], [size], apply_non_overlapping_constraints=apart)
    cleaning = Cleaning(non_overlapping=apart)
    assert torch.equal(full_masks(given, Preprocessing(128, "square"), size, cleaning), expected)


@pytest.mark.parametrize("name", ["sam_nano", "sam2_nano"])
def test_an_image_and_its_prompts_give_the_masks_of_transformers(name, tmp_path):
    """From pixels to masks with their processor and model, at a size that neither has to resize."""
    from sam_train.checkpoints import load_checkpoint, save_checkpoint

    model = build_model(name)
    load_checkpoint(model, name)
    save_checkpoint(model, tmp_path, "huggingface")
    kind = "Sam" if name == "sam_nano" else "Sam2"
    theirs = getattr(transformers, f"{kind}Model").from_pretrained(tmp_path)
    side = model.preprocessing.image_size
    settings = {"size": {"longest_edge": side}, "pad_size": {"height": side, "width": side}}
    if kind == "Sam2":
        settings = {"size": {"height": side, "width": side}}
    processor = getattr(transformers, f"{kind}Processor")(getattr(transformers, f"{kind}ImageProcessor")(**settings))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    boxes = [[20.0, 30, 130, 160], [100, 90, 250, 200]]
    inputs = processor(images=image, input_boxes=[boxes], return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**{key: inputs[key] for key in ("pixel_values", "input_boxes")}, multimask_output=True)
    predictor = Predictor(model)
    predictor.set_image(image)
    found = predictor.predict(boxes=boxes, multimask=True)
    limit = model.logit_limit
    assert_close(found.logits, expected.pred_masks[0].clamp(-limit, limit), atol=2e-3, rtol=0)
    assert_close(found.iou, expected.iou_scores[0], atol=1e-3, rtol=0)
