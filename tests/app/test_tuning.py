"""The button: what was accepted so far makes the model that answers from then on."""

import json

import pytest
import torch

from sam_train.app.models import Step
from sam_train.app.objects import LabeledObject, lengths_of
from sam_train.app.opening import Opened
from sam_train.app.pictures import tones_of_source
from sam_train.app.tuning import Progress, Recipe, source_of
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from sam_train.models import build_model
from sam_train.runs.run import Run
from tests.app.conftest import disc, open_folder, write_photos

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]
CLICK = [Step(point=(20, 24))]


def labeled(x):
    return [LabeledObject(lengths_of(torch.from_numpy(disc(x, 24))))]


def accept_all(labeling, number=3):
    for index in range(number):
        labeling.accept(index, labeled(20), None)


def tuned(labeling):
    labeling.tune()
    labeling.tuner.wait()
    assert labeling.tuning()["state"] == "done", labeling.tuning()["message"]
    return labeling


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page on which was tuned once, what the models said before, and its folder."""
    folder = tmp_path_factory.mktemp("page")
    labeling = open_folder(write_photos(folder / "photos"), folder / "labels", steps=3)
    accept_all(labeling)
    before = labeling.masks(0, CLICK)
    return tuned(labeling), before, folder


def test_after_tuning_both_models_answer_and_the_untuned_one_as_before(page):
    labeling, before, _ = page
    untuned, better = labeling.masks(0, CLICK)
    assert [untuned] == before
    assert (better["model"], better["number"]) == ("tuned", 1)
    assert better["iou"] != untuned["iou"]
    assert labeling.state()["hasTuned"]


def test_a_frozen_encoder_looks_at_an_image_once_for_both_models(page, monkeypatch):
    labeling, _, _ = page
    labeling.models.prepare(0, labeling.pictures[0].pixels)

    def never(images):
        raise AssertionError("the image is encoded already")

    monkeypatch.setattr(labeling.models._tuned.predictor, "encode", never)
    monkeypatch.setattr(labeling.models._untuned.predictor, "encode", never)
    assert len(labeling.masks(0, CLICK)) == 2


def test_the_curve_has_the_loss_of_each_step_and_the_iou_before_and_after(page):
    now = page[0].tuning()
    assert [step for step, _ in now["loss"]] == [1, 2, 3]
    assert now["iou"][0][0] == 0
    assert now["iou"][-1][0] == 3
    assert all(0 <= value <= 1 for _, value in now["iou"])


def test_the_tuned_model_is_a_run_like_any_other(page):
    labeling, _, folder = page
    run = Run.load(folder / "labels" / "tuned" / "1")
    assert run.model.preset == "sam2_nano"
    labeling.models.take(run.tuned(), 1)
    assert len(labeling.masks(0, CLICK)) == 2


def test_a_new_server_goes_on_with_the_tuned_model(page):
    labeling, _, folder = page
    again = open_folder(folder / "photos", folder / "labels")
    assert again.masks(0, CLICK) == labeling.masks(0, CLICK)
    assert again.notes == []


def test_a_new_server_with_another_model_says_that_it_does_not_go_on(page):
    _, _, folder = page
    again = open_folder(folder / "photos", folder / "labels", checkpoint="sam_nano")
    assert len(again.masks(0, CLICK)) == 1
    assert "tuned from sam2_nano, which is not what is open now" in again.notes[0]


def test_a_run_is_opened_with_its_untuned_model_beside_it_and_tuned_further_on_more(page, tmp_path):
    labeling, _, folder = page
    run = folder / "labels" / "tuned" / "1"
    again = open_folder(folder / "photos", tmp_path / "labels", checkpoint=run, image_size=None, steps=2)
    opened = again.masks(0, CLICK)
    assert [one["lengths"] for one in opened] == [one["lengths"] for one in labeling.masks(0, CLICK)]
    accept_all(again)
    again.accept(0, labeled(30), again.saved.revision("0.png"))
    further = tuned(again).masks(0, CLICK)
    assert further[0] == opened[0]
    assert further[1]["number"] == 1
    assert further[1]["iou"] != opened[1]["iou"]


def test_a_model_that_was_no_better_is_known_as_such_until_another_answers(open_page):
    opened = open_page()
    accept_all(opened)
    tuned(opened)
    mark = opened.tuner.folder / "current.json"
    assert json.loads(mark.read_text()) == {"number": 1, "gain": list(opened.tuner.progress.gain)}
    mark.write_text('{"number": 1, "gain": [0.75, 0.5]}')
    again = open_page()
    assert again.models.number == 1
    assert again.tuning()["isNoBetter"]
    again.tuner.progress = Progress("running", iou=[(0, 0.25), (1, 0.5)])  # of the next, which does not answer yet
    assert again.tuning()["isNoBetter"]
    again.models.take(again.models._tuned.predictor.model, 2)
    assert not again.tuning()["isNoBetter"]


def test_the_best_step_is_that_of_boxes_and_of_few_and_many_clicks(tmp_path):
    settings = Recipe().settings(source_of(tmp_path), tmp_path)
    assert [*settings.prompts.validated_by()] == ["box", "point", "clicks"]


def test_too_few_images_are_not_tuned_on(open_page):
    opened = open_page()
    accept_all(opened, 1)
    with pytest.raises(InputError, match="tuning needs at least 2 accepted images; there are 1"):
        opened.tune()


def test_one_tuning_at_a_time(open_page):
    opened = open_page()
    accept_all(opened)
    opened.tuner.progress.state = "running"
    with pytest.raises(InputError, match="tuning is going on"):
        opened.tune()


def test_stopping_keeps_the_best_model_so_far(open_page):
    opened = open_page(steps=100_000)
    accept_all(opened)
    opened.tune()
    opened.tuner.stop()
    opened.tuner.wait()
    assert opened.tuning()["state"] == "done"
    assert len(opened.tuning()["loss"]) < 5
    assert opened.models.number == 1


def test_what_goes_wrong_is_told_on_the_page_and_the_models_stay(open_page, tmp_path):
    opened = open_page()
    accept_all(opened)
    (tmp_path / "labels" / "masks" / "0.png").write_bytes(b"broken")
    opened.tune()
    opened.tuner.wait()
    assert opened.tuning()["state"] == "failed"
    assert "0.png" in opened.tuning()["message"]
    assert len(opened.masks(0, CLICK)) == 1


def test_a_score_of_no_objects_is_not_shown(open_page):
    opened = open_page()
    opened.tuner.progress.tell("iou", 0, float("nan"))
    opened.tuner.progress.tell("iou", 1, 0.5)
    assert opened.tuning()["iou"] == [(1, 0.5)]


def test_images_train_as_they_are_shown(open_page, photos):
    source = FolderSource(str(photos), channels=(1,), window=(0.0, 400.0))
    opened = open_page(tones=tones_of_source(source))
    own = opened.tuner._source()
    assert own.tones() == opened.models.tones == source.tones()


def test_a_run_that_was_removed_does_not_keep_the_page_closed(open_page, tmp_path):
    (tmp_path / "labels/tuned").mkdir(parents=True)
    (tmp_path / "labels/tuned/current.json").write_text('{"number": 3}')
    assert "the model tuned earlier is not used: checkpoint=" in open_page().notes[-1]


def test_each_run_that_is_opened_is_kept_for_what_begins_from_it(page, tmp_path):
    opened = Opened(str(page[2] / "labels" / "tuned" / "1"))
    models = [build_model("sam2_nano", 64).eval() for _ in range(2)]
    assert len({opened.choice(model, tmp_path).weights for model in models}) == len([*tmp_path.iterdir()]) == 2
