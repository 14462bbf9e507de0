"""The simulated person: what it gives, and that it depends on nothing but the object itself."""

from dataclasses import replace

import pytest
import torch

from sam_train.errors import InputError
from sam_train.prompts.simulator import EVALUATION, PromptSimulator, is_ambiguous
from sam_train.structures import NUM_DRAWS, Batch, MaskPrediction, PointLabel, Prompts

MIXTURE = PromptSimulator(box=1, point=1, center=1, mask=1, corrections=3)


def make_batch(num_objects: int = 12, side: int = 64, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_objects, 1, 5, 5, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[:, 0] > 0.6
    masks[:, side // 2, side // 2] = True
    return Batch(
        images=torch.zeros(2, 3, side, side, dtype=torch.uint8),
        masks=masks,
        object_image=torch.arange(num_objects) * 2 // num_objects,
        valid_size=torch.tensor([[side, side], [side, side - 8]]),
        original_size=torch.tensor([[side, side], [side, side - 8]]),
        draws=torch.rand(num_objects, NUM_DRAWS, generator=generator),
        ids=("a", "b"),
    )


def prediction_for(batch: Batch, seed: int = 1) -> MaskPrediction:
    generator = torch.Generator().manual_seed(seed)
    side = batch.masks.shape[-1] // 4
    table = torch.randn(200, 3, side, side, generator=generator)
    rows = (batch.draws[:, 0] * 199).long()  # a function of the object alone
    return MaskPrediction(table[rows], table[rows].mean((2, 3)))


def run(batch: Batch, simulator: PromptSimulator) -> Prompts:
    prompts = simulator.first(batch)
    for number in range(simulator.corrections):
        prompts = simulator.correct(batch, prompts, prediction_for(batch, number), number)
    return prompts


@pytest.mark.parametrize("simulator", [MIXTURE, replace(MIXTURE, correct_at="center"), *EVALUATION.values()])
def test_an_objects_prompts_do_not_depend_on_other_objects(simulator):
    batch = make_batch()
    whole = run(batch, simulator)
    objects = torch.tensor([7, 2, 11])
    alone = run(batch.with_objects(objects), simulator)
    for name in ("points", "labels", "masks", "has_mask"):
        ours, theirs = getattr(whole, name), getattr(alone, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.equal(ours[objects], theirs)


def test_kinds_come_in_the_frequencies_asked_for():
    batch = make_batch(4)
    batch = batch.with_objects(torch.zeros(4000, dtype=torch.long))
    batch = replace(batch, draws=torch.rand(4000, NUM_DRAWS, generator=torch.Generator().manual_seed(3)))
    prompts = PromptSimulator(box=2, point=1, mask=1).first(batch)
    is_box = prompts.labels[:, 1] == PointLabel.BOX_BOTTOM_RIGHT
    is_point = prompts.labels[:, 0] == PointLabel.OBJECT
    assert abs(is_box.float().mean() - 0.5) < 0.03
    assert abs(is_point.float().mean() - 0.25) < 0.03
    assert torch.equal(prompts.has_mask, ~is_box & ~is_point)
    assert (prompts.labels[prompts.has_mask] == PointLabel.EMPTY).all()


@pytest.mark.parametrize("side", [64, 1024])
def test_points_lie_on_their_object(side):
    batch = make_batch(side=side)
    lines = torch.zeros(side, side, dtype=torch.bool)
    lines[side // 3] = lines[:, side // 5] = True  # of one pixel
    batch.masks[:2] = lines
    for simulator in (PromptSimulator(point=1), PromptSimulator(center=1)):
        prompts = simulator.first(batch)
        x, y = prompts.points[:, 0].long().unbind(1)
        assert batch.masks[torch.arange(len(x)), y, x].all()


@pytest.mark.parametrize("side", [64, 1024])
def test_corrections_land_on_errors_and_bring_the_logits_along(side):
    batch = make_batch(6, side)
    simulator = PromptSimulator(point=1, corrections=1, correct_at="center")
    prediction = prediction_for(batch)
    prompts = simulator.correct(batch, simulator.first(batch), prediction, 0)
    best = prediction.best().logits
    assert torch.equal(prompts.masks, best)
    assert prompts.has_mask is None
    full = torch.nn.functional.interpolate(best, (min(side, 256),) * 2, mode="bilinear")[:, 0] > 0
    stride = side // full.shape[-1]
    cells = (prompts.points[:, -1] / stride).long()
    for index, (x, y) in enumerate(cells.tolist()):
        truth = batch.masks[index, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride].float().mean() >= 0.5
        assert truth != full[index, y, x]
        assert prompts.labels[index, -1] == int(truth)
    x, y = prompts.points[:, -1].long().unbind(1)
    assert torch.equal(batch.masks[torch.arange(len(x)), y, x], prompts.labels[:, -1] == PointLabel.OBJECT)


def test_no_click_lands_in_the_padding():
    batch = make_batch()
    batch = replace(batch, masks=batch.masks & (torch.arange(64) < 56))
    everything = MaskPrediction(torch.full((12, 1, 16, 16), 5.0), torch.ones(12, 1))
    simulator = PromptSimulator(point=1, corrections=1, correct_at="center")
    prompts = simulator.correct(batch, simulator.first(batch), everything, 0)
    in_second = batch.object_image == 1
    assert (prompts.points[in_second, -1, 0] < 56).all()


def with_ignored(batch: Batch, share: float) -> Batch:
    """Specks of the images are ignored, and no object is there."""
    ignore = torch.rand(len(batch.ids), *batch.masks.shape[1:], generator=torch.Generator().manual_seed(5)) < share
    return replace(batch, masks=batch.masks & ~ignore[batch.object_image], ignore=ignore)


@pytest.mark.parametrize("correct_at", ["center", "random"])
@pytest.mark.parametrize(("side", "share"), [(64, 0.3), (64, 0.9), (1024, 0.3), (1024, 0.9)])
def test_no_click_lands_on_ignored_pixels(correct_at, side, share):
    batch = with_ignored(make_batch(4, side), share)
    simulator = PromptSimulator(box=1, point=1, center=1, corrections=3, correct_at=correct_at)
    truth = torch.nn.functional.interpolate(batch.masks[:, None].float(), (side // 4, side // 4), mode="area")
    perfect = MaskPrediction(truth * 20 - 9.99, torch.ones(4, 1))
    everything = MaskPrediction(torch.full((4, 1, side // 4, side // 4), 5.0), torch.ones(4, 1))
    prompts = simulator.first(batch)
    for number, prediction in enumerate((perfect, everything, prediction_for(batch))):
        prompts = simulator.correct(batch, prompts, prediction, number)
    is_click = (prompts.labels == PointLabel.OBJECT) | (prompts.labels == PointLabel.BACKGROUND)
    assert share > 0.5 or is_click[:, 3:].all()  # a wrong prediction is corrected somewhere else
    objects, slots = is_click.nonzero().unbind(dim=1)
    x, y = prompts.points[objects, slots].long().unbind(dim=1)
    assert not batch.ignore[batch.object_image[objects], y, x].any()


def test_what_was_found_on_ignored_pixels_is_not_corrected():
    batch = with_ignored(make_batch(4), 0)
    batch = replace(batch, ignore=torch.zeros(2, 64, 64) > 0, masks=torch.zeros(4, 64, 64) > 0)
    batch.masks[:, 40:50, 4:14] = True
    batch.ignore[:, :36] = True
    found = batch.masks | batch.ignore[batch.object_image]
    logits = torch.nn.functional.interpolate(found[:, None].float(), (16, 16), mode="area") * 20 - 10
    simulator = PromptSimulator(box=1, corrections=1, correct_at="center")
    prompts = simulator.correct(batch, simulator.first(batch), MaskPrediction(logits, torch.ones(4, 1)), 0)
    assert (prompts.points[:, -1, 1] > 36).all()


def test_boxes_are_those_of_objects_whatever_is_ignored_around_them():
    batch = make_batch(4)
    boxes = EVALUATION["box"].first(batch)
    assert torch.equal(EVALUATION["box"].first(replace(batch, ignore=~batch.masks[:2])).points, boxes.points)


def test_only_a_lone_click_is_ambiguous():
    prompts = MIXTURE.first(make_batch(40))
    lone = (prompts.labels[:, 0] == PointLabel.OBJECT) & ~prompts.has_mask
    assert torch.equal(is_ambiguous(prompts), lone)
    assert lone.any()
    assert not lone.all()
    batch = make_batch()
    clicks = EVALUATION["clicks"]
    assert not is_ambiguous(clicks.correct(batch, clicks.first(batch), prediction_for(batch), 0)).any()


@pytest.mark.parametrize(
    "arguments", [{}, {"box": -1, "point": 1}, {"box": 1, "corrections": 11}, {"box": 1, "correct_at": "edge"}]
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InputError, match="prompts"):
        PromptSimulator(**arguments)
