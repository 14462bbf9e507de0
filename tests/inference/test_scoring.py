"""Scores are of what a person would get from the official predictor."""

import copy
from dataclasses import replace

import pytest
import torch

from sam_train.data.loading.dataset import EvalDataset
from sam_train.inference import scoring
from sam_train.inference.interaction import encode
from sam_train.inference.scoring import encode_all, mask_pairs, predict_image, score_batch
from sam_train.metrics import METRICS
from sam_train.prompts.simulator import EVALUATION
from sam_train.runs.run import share_frozen
from sam_train.tuning.surgery import Tuning
from tests.checkpoints.tiny import SAM2_CONFIG, build
from tests.data.samples import Squares


@torch.no_grad()
def test_unstable_masks_of_sam2_give_way_in_evaluation():
    model = build(SAM2_CONFIG)
    batch = EvalDataset(Squares(4), model.preprocessing, min_area=1)[3]
    features = encode(model, batch)
    found = predict_image(model, features, batch, 0, EVALUATION["box"])
    masks = [
        model.preprocessing.restore_logits(decode(features, found.prompts, batch.object_image, False).logits, (60, 90))
        for decode in (model.predict, model.decode)
    ]
    assert torch.equal(found.masks, masks[0][:, 0] > 0)
    assert not torch.equal(found.masks, masks[1][:, 0] > 0)


@torch.no_grad()
def test_what_bounds_memory_changes_no_score(monkeypatch: pytest.MonkeyPatch):
    model = build(SAM2_CONFIG)
    batch = EvalDataset(Squares(4), model.preprocessing, min_area=1)[3]
    together = score_batch({"": model}, batch, EVALUATION, METRICS)
    masks = predict_image(model, encode(model, batch), batch, 0, EVALUATION["clicks"]).masks
    assert len(masks) > 2
    monkeypatch.setattr(scoring, "OBJECTS_AT_ONCE", 2)
    monkeypatch.setattr(scoring, "PIXELS_AT_ONCE", 1)
    assert score_batch({"": model}, batch, EVALUATION, METRICS) == together
    assert torch.equal(predict_image(model, encode(model, batch), batch, 0, EVALUATION["clicks"]).masks, masks)


@torch.no_grad()
def test_models_with_one_encoder_share_its_features_and_score_as_alone():
    untuned = build(SAM2_CONFIG)
    tuned = copy.deepcopy(untuned)
    Tuning("frozen").apply(tuned)
    share_frozen(untuned, tuned)
    tuned.sam_mask_decoder.iou_token.weight.add_(0.5)
    batch = EvalDataset(Squares(4), untuned.preprocessing, min_area=1)[3]
    encoded = []
    for model in (untuned, tuned):
        model.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    features = encode_all({"untuned": untuned, "tuned": tuned}, batch)
    assert features["untuned"] is features["tuned"]
    assert encoded == [1]
    both = score_batch({"untuned": untuned, "tuned": tuned}, batch, EVALUATION, METRICS)
    for name, model in {"untuned": untuned, "tuned": tuned}.items():
        alone = score_batch({"": model}, batch, EVALUATION, METRICS)
        for metric in METRICS:
            assert both.column(f"{name}_{metric.name}").equals(alone.column(metric.name))
    assert not both.column("untuned_iou").equals(both.column("tuned_iou"))


def test_ignored_pixels_count_in_neither_mask():
    sample = Squares(2).read(1)
    ignore = torch.zeros(60, 90, dtype=torch.bool)
    ignore[:, :10] = True
    pairs = mask_pairs(torch.ones(1, 60, 90, dtype=torch.bool), replace(sample, ignore=ignore), torch.tensor([0]))
    assert pairs.true_area.item() == 16 * 11  # of a square of 16 pixels that begins at column 5
    assert pairs.predicted_area.item() == 60 * 80
