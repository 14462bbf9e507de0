"""Scores are of what a person would get from the official predictor."""

import pytest
import torch

from sam_train.data.loading.dataset import EvalDataset
from sam_train.inference import scoring
from sam_train.inference.interaction import encode
from sam_train.inference.scoring import predict_image, score_batch
from sam_train.prompts.simulator import EVALUATION
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
    together = score_batch(model, batch, EVALUATION)
    masks = predict_image(model, encode(model, batch), batch, 0, EVALUATION["clicks"]).masks
    assert len(masks) > 2
    monkeypatch.setattr(scoring, "OBJECTS_AT_ONCE", 2)
    monkeypatch.setattr(scoring, "PIXELS_AT_ONCE", 1)
    assert score_batch(model, batch, EVALUATION) == together
    assert torch.equal(predict_image(model, encode(model, batch), batch, 0, EVALUATION["clicks"]).masks, masks)
