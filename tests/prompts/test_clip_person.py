"""A simulated person who prompts objects in a clip."""

import torch

from sam_train.prompts.clip_person import ClipPerson
from sam_train.structures import NUM_DRAWS, Batch, MaskPrediction, PointLabel

SIDE = 64


def frame(absent: bool = False) -> Batch:
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 10:30, 10:30] = True
    masks[1, 40:60, 5:50] = not absent
    size = torch.tensor([[SIDE, SIDE]])
    draws = torch.rand(2, NUM_DRAWS, generator=torch.Generator().manual_seed(0))
    return Batch(None, masks, torch.zeros(2, dtype=torch.long), size, size, draws, ("frame",))


def shown(masks: torch.Tensor) -> MaskPrediction:
    logits = torch.where(masks[:, None, ::4, ::4], 10.0, -10.0)
    return MaskPrediction(logits, torch.ones(2, 1), torch.ones(2))


def test_masks_clicks_and_boxes_are_given():
    batch = frame()
    assert torch.equal(ClipPerson([batch], "mask").first(0), batch.masks)
    clicks = ClipPerson([batch], "point").first(0)
    x, y = clicks.points[:, 0].long().unbind(1)
    assert batch.masks[torch.arange(2), y, x].all()
    assert (clicks.labels[:, 0] == PointLabel.OBJECT).all()
    assert (ClipPerson([batch], "box").first(0).labels == torch.tensor([2, 3])).all()


def test_of_an_object_that_is_absent_a_click_on_something_else_is_given():
    for kind in ("point", "box"):
        prompts = ClipPerson([frame(absent=True)], kind).first(0)
        assert prompts.labels[1].tolist() == [PointLabel.BACKGROUND, PointLabel.EMPTY]
        assert prompts.labels[0, 0] != PointLabel.BACKGROUND


def test_corrections_lie_where_the_prediction_is_wrong():
    batch = frame()
    person = ClipPerson([batch], "point")
    wrong = batch.masks.roll(12, dims=2)
    prompts = person.correct(0, None, shown(wrong))
    assert prompts.labels.shape == (2, 1)
    for number in range(3):
        prompts = person.correct(0, prompts, shown(wrong))
        x, y = prompts.points[:, -1].long().unbind(1)
        inside = batch.masks[torch.arange(2), y, x]
        assert torch.equal(inside, prompts.labels[:, -1] == PointLabel.OBJECT), number
    assert prompts.labels.shape == (2, 4)
    assert prompts.masks is None
