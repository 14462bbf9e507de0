"""The button: what was accepted so far makes the model that answers from then on."""

import pytest
import torch

from sam_train.app.models import Step
from sam_train.app.objects import LabeledObject, lengths_of
from sam_train.errors import InputError
from sam_train.runs.run import Run
from tests.app.conftest import disc

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]
CLICK = [Step(point=(20, 24))]


def accept_all(labeling, number=3):
    for index in range(number):
        labeling.accept(index, [LabeledObject(lengths_of(torch.from_numpy(disc(20, 24))))], None)


def tuned(labeling):
    labeling.tune()
    labeling.tuner.wait()
    assert labeling.tuning()["state"] == "done", labeling.tuning()["message"]
    return labeling


@pytest.fixture
def labeling(open_page):
    opened = open_page(steps=3)
    accept_all(opened)
    return opened


def test_after_tuning_both_models_answer_and_the_untuned_one_as_before(labeling):
    (before,) = labeling.masks(0, CLICK)
    tuned(labeling)
    untuned, better = labeling.masks(0, CLICK)
    assert untuned == before
    assert (better["model"], better["number"]) == ("tuned", 1)
    assert better["iou"] != before["iou"]
    assert labeling.state()["hasTuned"]


def test_a_frozen_encoder_looks_at_an_image_once_for_both_models(labeling, monkeypatch):
    tuned(labeling)
    labeling.models.prepare(0, labeling.pictures[0].pixels)

    def never(images):
        raise AssertionError("the image is encoded already")

    monkeypatch.setattr(labeling.models._tuned.predictor, "encode", never)
    monkeypatch.setattr(labeling.models._untuned.predictor, "encode", never)
    assert len(labeling.masks(0, CLICK)) == 2


def test_the_curve_has_the_loss_of_each_step_and_the_iou_before_and_after(labeling):
    now = tuned(labeling).tuning()
    assert [step for step, _ in now["loss"]] == [1, 2, 3]
    assert now["iou"][0][0] == 0
    assert now["iou"][-1][0] == 3
    assert all(0 <= value <= 1 for _, value in now["iou"])


def test_a_second_time_tunes_anew_on_all_that_is_there(labeling):
    tuned(labeling)
    first = labeling.masks(0, CLICK)[1]
    labeling.accept(0, [LabeledObject(lengths_of(torch.from_numpy(disc(30, 24))))], labeling.saved.revision("0.png"))
    second = tuned(labeling).masks(0, CLICK)[1]
    assert second["number"] == 2
    assert second["iou"] != first["iou"]


def test_a_new_server_goes_on_with_the_tuned_model(labeling, open_page):
    better = tuned(labeling).masks(0, CLICK)[1]
    again = open_page()
    assert again.masks(0, CLICK)[1] == better
    assert again.notes == []


def test_the_tuned_model_is_a_run_like_any_other(labeling, tmp_path):
    tuned(labeling)
    assert Run.load(tmp_path / "labels" / "tuned" / "1").tuned() is not None


def test_a_run_is_opened_with_its_untuned_model_beside_it_and_tuned_further(labeling, open_page, tmp_path):
    better = tuned(labeling).masks(0, CLICK)
    (tmp_path / "labels" / "tuned" / "current.json").unlink()
    run = tmp_path / "run"
    (tmp_path / "labels" / "tuned" / "1").rename(run)
    again = open_page(checkpoint=str(run), image_size=None, steps=3)
    opened = again.masks(0, CLICK)
    assert [one["lengths"] for one in opened] == [one["lengths"] for one in better]
    further = tuned(again).masks(0, CLICK)
    assert further[0] == opened[0]
    assert further[1]["iou"] != opened[1]["iou"]


def test_too_few_images_are_not_tuned_on(open_page):
    opened = open_page()
    accept_all(opened, 1)
    with pytest.raises(InputError, match="tuning needs at least 2 accepted images; there are 1"):
        opened.tune()


def test_one_tuning_at_a_time(labeling):
    labeling.tuner.progress.state = "running"
    with pytest.raises(InputError, match="tuning is going on"):
        labeling.tune()


def test_stopping_keeps_the_best_model_so_far(open_page):
    opened = open_page(steps=100_000)
    accept_all(opened)
    opened.tune()
    opened.tuner.stop()
    opened.tuner.wait()
    assert opened.tuning()["state"] == "done"
    assert len(opened.tuning()["loss"]) < 5
    assert opened.models.number == 1


def test_what_goes_wrong_is_told_on_the_page_and_the_models_stay(labeling, tmp_path):
    (tmp_path / "labels" / "masks" / "0.png").write_bytes(b"broken")
    labeling.tune()
    labeling.tuner.wait()
    assert labeling.tuning()["state"] == "failed"
    assert "0.png" in labeling.tuning()["message"]
    assert len(labeling.masks(0, CLICK)) == 1
