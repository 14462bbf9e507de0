"""What ``transformers``' image processors offer for automatic masks, and their pipeline, give what ours give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.testing import assert_close

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.inference.found_masks import FoundMasks
from sam_train.inference.mask_filters import above, is_cut_off, mask_boxes, stability_scores
from sam_train.inference.mask_generator import Everything, MaskGenerator
from sam_train.inference.point_grids import crop_boxes, layer_grids
from sam_train.inference.predictor import Predictor
from sam_train.inference.run_lengths import RunLengths
from sam_train.models import build_model
from sam_train.preprocessing import Preprocessing

SIZE = (300, 420)


@pytest.mark.parametrize("processor", [transformers.SamImageProcessor, transformers.Sam2ImageProcessor])
@pytest.mark.parametrize(("layers", "downscale"), [(0, 1), (1, 1), (2, 1)])
def test_crop_boxes_and_their_points(processor, layers, downscale):
    image = np.zeros((*SIZE, 3), np.uint8)
    boxes, points, images, _ = processor().generate_crop_boxes(image, 256, layers, 0.3, 6, downscale)
    crops = crop_boxes(SIZE, layers, 0.3)
    assert [list(crop.box) for crop in crops] == boxes.tolist()
    grids = layer_grids(6, layers, downscale)
    for index, crop in enumerate(crops):
        height, width = crop.size
        assert images[index].shape[1:] == crop.size
        ours = Preprocessing(256).scale_points(
            torch.from_numpy(grids[crop.layer]) * torch.tensor([width, height]), crop.size
        )
        assert_close(ours.float(), points[0, :, index], atol=1e-3, rtol=0)


def candidates() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    center = torch.rand(20, 3, 2, 1, 1, generator=generator) * torch.tensor([150.0, 230]).view(2, 1, 1)
    radius = 40 * torch.rand(20, 3, 1, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(150), torch.arange(230), indexing="ij")
    masks = (radius - torch.hypot(rows - center[:, :, 0], columns - center[:, :, 1])) / 3
    return masks, torch.rand(20, 3, generator=generator)


@pytest.mark.parametrize("processor", [transformers.SamImageProcessor, transformers.Sam2ImageProcessor])
@pytest.mark.parametrize("crop", [(0, 0, 230, 150), (100, 40, 330, 190)])
def test_filters_of_masks_and_what_is_kept_of_them(processor, crop):
    """``filter_masks`` and ``post_process_for_mask_generation``."""
    masks, iou = candidates()
    size = SIZE if crop[0] else (150, 230)
    theirs = processor().filter_masks(masks, iou, size, torch.tensor(crop), 0.3, 0.6, 0.1, 0.8)
    stable = stability_scores(masks.flatten(0, 1), 0.1, 0.8)
    kept = ((iou.flatten() > 0.3) & (stable > 0.6)).nonzero()[:, 0]
    dense = above(masks.flatten(0, 1)[kept], 0.1)
    x0, y0, *_ = crop
    boxes = mask_boxes(dense) + torch.tensor([x0, y0, x0, y0])
    whole = (~is_cut_off(boxes, crop, size)).nonzero()[:, 0]
    kept, runs = kept[whole], RunLengths.of(dense[whole], size, (y0, x0))
    rles, scores, their_boxes = theirs
    assert len(kept) == len(rles) > 3
    assert [rle["counts"] for rle in rles] == list(runs.lengths())
    assert torch.equal(iou.flatten()[kept], scores)
    assert torch.equal(boxes[whole], their_boxes.long())

    nothing = torch.zeros(len(kept), 2)
    found = FoundMasks(runs, boxes[whole], scores, scores, nothing, torch.tensor(crop).expand(len(kept), 4))
    ours = found.distinct(0.5)
    masks, scores, rles, their_boxes = processor().post_process_for_mask_generation(rles, scores, their_boxes, 0.5)
    assert torch.equal(torch.stack(masks), ours.masks.masks())
    assert [rle["counts"] for rle in rles] == list(ours.masks.lengths())
    assert torch.equal(scores, ours.iou)
    assert torch.equal(their_boxes.long(), ours.boxes)


@pytest.mark.parametrize("name", ["sam_nano", "sam2_nano"])
def test_the_masks_of_everything_are_those_of_the_pipeline(name, tmp_path):
    """From one image, whose size neither has to change, with the weights that come with the package."""
    model = build_model(name)
    load_checkpoint(model, name)
    save_checkpoint(model, tmp_path, "huggingface")
    side = model.preprocessing.image_size
    size = {"longest_edge": side} if name == "sam_nano" else {"height": side, "width": side}
    pipeline = transformers.pipeline(
        "mask-generation",
        model=str(tmp_path),
        image_processor=type(transformers.AutoImageProcessor.from_pretrained(tmp_path))(
            size=size, **({"pad_size": {"height": side, "width": side}} if name == "sam_nano" else {})
        ),
        device="cpu",
    )
    rows, columns = np.mgrid[:side, :side]
    image = np.full((side, side, 3), 40, np.uint8)
    for index, (x, y, radius) in enumerate([(60, 60, 30), (150, 70, 25), (90, 180, 45), (200, 190, 30)]):
        image[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = (220 - 40 * index, 90 + 30 * index, 200)
    settings = Everything(points_per_side=8, pred_iou_thresh=0.3, stability_score_thresh=0.5)
    theirs = pipeline(
        Image.fromarray(image),
        points_per_crop=8,
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        output_bboxes_mask=True,
    )
    found = MaskGenerator(Predictor(model), replace(settings, points_per_batch=16)).generate(image)
    assert len(found) == len(theirs["masks"]) > 3
    assert_close(found.iou, theirs["scores"], atol=1e-3, rtol=0)
    masks = torch.stack([torch.as_tensor(np.asarray(mask)) for mask in theirs["masks"]])
    assert int((masks != found.masks.masks()).flatten(1).sum(1).max()) <= 20
