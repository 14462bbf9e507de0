"""Kinds of prompt that scores are taken by."""

from dataclasses import replace

import pytest
import torch
from torchvision.ops import masks_to_boxes

from sam_train.errors import InputError
from sam_train.prompts.protocols import EVALUATION, find_protocols
from sam_train.prompts.simulator import PromptSimulator, is_ambiguous
from sam_train.structures import PointLabel, Prompts
from tests.prompts.test_simulator import make_batch, prediction_for


@pytest.fixture
def batch():
    """Six objects of one image; three of them came with a box, one of these with a click beside it."""
    batch = make_batch(6).image(0)
    assert batch.num_objects == 3
    points = torch.tensor([[[1.0, 2], [9, 8], [3, 3]], [[0, 0], [0, 0], [0, 0]], [[4, 5], [40, 50], [0, 0]]])
    labels = torch.tensor([[2, 3, 0], [-1, -1, -1], [2, 3, -1]])
    return replace(batch, given=Prompts(points, labels))


def test_boxes_are_off_by_up_to_their_name_and_more_in_the_same_direction(batch):
    tight = masks_to_boxes(batch.masks)
    extent = (tight[:, 2:] - tight[:, :2]).repeat(1, 2)
    errors = {}
    for percent in (5, 20):
        protocol = find_protocols([f"box_{percent}"])[f"box_{percent}"]
        box = protocol.simulator.first(batch).points.flatten(1)
        errors[percent] = (box - tight) / extent
        assert errors[percent].abs().max() <= percent / 100 + 1e-6
        assert torch.equal(box, protocol.simulator.first(batch).points.flatten(1))
    free = (errors[20] * extent + tight > 0) & (errors[20] * extent + tight < 63)
    torch.testing.assert_close(errors[20][free], 4 * errors[5][free])


def test_what_the_data_bring_is_given_to_the_objects_that_have_any(batch):
    protocol = find_protocols(["given"])["given"]
    objects = protocol.objects(batch)
    assert objects.tolist() == [0, 2]
    prompts = protocol.simulator.first(batch.with_objects(objects))
    assert torch.equal(prompts.points[0], batch.given.points[0])
    assert prompts.labels.tolist() == [[2, 3, 0], [2, 3, -1]]
    everyone = protocol.simulator.first(batch)
    assert torch.equal(everyone.points[1, :2].flatten(), masks_to_boxes(batch.masks)[1])  # in training
    assert not protocol.objects(replace(batch, given=None)).numel()


def test_an_objects_own_click_has_three_candidates(batch):
    click = replace(batch, given=Prompts(torch.ones(3, 1, 2), torch.full((3, 1), int(PointLabel.OBJECT))))
    simulator = find_protocols(["given"])["given"].simulator
    assert is_ambiguous(simulator.first(click)).all()
    assert simulator.clicks_first()


def test_shuffled_prompts_are_those_of_other_objects(batch):
    protocol = find_protocols(["shuffled"])["shuffled"]
    boxes = protocol.simulator.first(protocol.prompted(batch)).points.flatten(1)
    assert torch.equal(boxes, masks_to_boxes(batch.masks)[[1, 2, 0]])
    alone = batch.with_objects(torch.tensor([1]))
    assert protocol.objects(batch).tolist() == [0, 1, 2]
    assert not protocol.objects(alone).numel()


def test_twenty_clicks_are_scored_after_five(batch):
    protocol = find_protocols(["clicks"], clicks=20)["clicks"]
    assert (protocol.num_rounds, protocol.title, protocol.has_curve) == (5, "5 clicks", True)
    prompts = protocol.simulator.first(batch)
    for number in range(protocol.simulator.corrections):
        prompts = protocol.simulator.correct(batch, prompts, prediction_for(batch, number), number)
    assert prompts.labels.shape[1] == 2 + 19  # one slot of a box stays empty
    assert find_protocols(["clicks"], clicks=3)["clicks"].num_rounds == 3


def test_more_clicks_than_draws_are_refused_where_they_are_random():
    with pytest.raises(InputError, match=r"prompts\.corrections=11: at most 10"):
        PromptSimulator(point=1, corrections=11)
    with pytest.raises(InputError, match="from 0 to 19"):
        PromptSimulator(point=1, corrections=20, correct_at="center")


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (PromptSimulator(mask=1), ["mask"]),
        (PromptSimulator(given=1), ["given"]),
        (PromptSimulator(box=1, point=1, corrections=1), ["box", "point", "clicks"]),
        (PromptSimulator(box=1, center=1, mask=1), ["box", "point", "mask"]),
    ],
)
def test_validation_scores_what_is_trained(trained, expected):
    assert trained.validated_by() == expected
    assert [*find_protocols(trained.validated_by())] == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["boxx"], "no protocol 'boxx'; nearest: box"),
        ([], "give at least one"),
        (["box", "box"], "each once"),
    ],
)
def test_protocols_that_do_not_exist_are_refused(names, expected):
    with pytest.raises(InputError, match=expected):
        find_protocols(names)


def test_reports_are_on_boxes_clicks_and_corrections_by_default():
    assert [*EVALUATION] == ["box", "point", "clicks"]
    assert EVALUATION["clicks"].simulator == PromptSimulator(center=1, corrections=4, correct_at="center")
