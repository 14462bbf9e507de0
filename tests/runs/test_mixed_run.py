"""Images and clips in one run."""

import json
from dataclasses import replace
from itertools import islice

import pyarrow.parquet
import pytest
import torch

from sam_train.data.loading.clip_batch import collate_clips
from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.several import SeveralSources
from sam_train.data.world import ToySource
from sam_train.data.world.film import ToyVideoSource
from sam_train.errors import InputError
from sam_train.inference.interaction import encode
from sam_train.losses.sam_loss import SamLoss
from sam_train.prompts.simulator import PromptSimulator
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.run import Run
from sam_train.runs.settings import Cache, Settings
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tasks.image import ImageTask
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning
from tests.runs.test_video_run import SETTINGS as OF_CLIPS
from tests.runs.test_video_run import make_task

CLIPS = ToyVideoSource(4, 2, 1, num_frames=4, image_size=64)
IMAGES = ToySource("shapes", 5, 2, 3, 64)
SOURCES = SeveralSources({"films": CLIPS, "stills": IMAGES}, {"films": 1, "stills": 1})
SETTINGS: Settings = replace(OF_CLIPS, data=SOURCES, tuning=Tuning("frozen", memory="full"))


def make_data(sources=SOURCES) -> ClipData:
    task, _ = make_task()
    loading = SETTINGS.loader
    return ClipData(sources.splits(), task.model.preprocessing, loading, 0, SETTINGS.task.choice(2), 2, 3)


def streamed(data, number, seen=0):
    """Ids, lengths and masks of a number of batches, from one that is not the first."""
    loader = data.train_dataloader()
    loader.load_state_dict({"seen": seen})
    batches = (batch for _ in range(number) for batch in loader)
    return [
        (batch.ids, len(batch.frames), batch.seed, [int(frame.masks.sum()) for frame in batch.frames])
        for batch in islice(batches, number)
    ]


def test_every_batch_is_of_one_source_and_weights_are_shares_of_the_batches():
    found = streamed(make_data(), 12)
    for ids, length, _, _ in found:
        assert {name.startswith("toy-video") for name in ids} == {length == 3}
        assert len(ids) == 2
        assert length in (1, 3)
    assert sum(length == 3 for _, length, _, _ in found) == 6
    evenly = SeveralSources({"films": CLIPS, "stills": IMAGES})
    (epoch,) = [streamed(make_data(evenly), 5)]
    shown = {name for ids, length, _, _ in epoch for name in ids if length == 1}
    assert len(shown) == 5  # without weights every image once, and one more to fill the last batch
    assert len([length for _, length, _, _ in epoch if length == 3]) == 2


def test_the_order_is_a_function_of_seed_and_epoch_and_goes_on_in_the_middle():
    whole = streamed(make_data(), 9)
    assert streamed(make_data(), 9) == whole
    assert streamed(make_data(), 5, seen=4) == whole[4:]


def test_an_image_is_a_clip_of_one_frame_given_by_clicks_or_a_box():
    training = ClipTraining(mask=5, point=1, box=1)
    known = torch.ones(1, 3, dtype=torch.bool)
    drawn = [training.draw(known, torch.Generator().manual_seed(seed)) for seed in range(100)]
    assert {kind for kind, _ in drawn} == {"point", "box"}
    for _, schedule in drawn:
        assert (schedule.conditioning, schedule.corrected, schedule.num_corrections) == ((0,), (0,), 7)


@pytest.mark.parametrize("kind", ["point", "box"])
def test_the_loss_of_images_is_that_of_the_image_task(kind):
    """Of the first prompt; clicks that follow are drawn from other numbers, and see empty masks of absent objects."""
    chosen = {name: float(name == kind) for name in ("mask", "point", "box")}
    task, _ = make_task(**chosen)
    task.clip_training = replace(task.clip_training, corrections=0)
    simulator = PromptSimulator(box=1) if kind == "box" else PromptSimulator(point=1)
    images = ImageTask(task.model, simulator, SamLoss(), Optimization(), {}, False)
    dataset = make_data().train_dataloader().dataset.dataset
    batch = collate_clips([dataset[0, 4], dataset[0, 5]])
    assert len(batch.frames) == 1
    expected = images.loss_terms(batch.frames[0])
    for found, wanted in zip(task.loss_terms(batch), expected, strict=True):
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_corrections_of_images_are_rounds_of_the_same_loss():
    """The person of clips in turns with the image model gives the loss of an image in the video task."""
    from sam_train.prompts.clip_person import ClipPerson

    task, _ = make_task(mask=0, point=1, box=0)
    with torch.no_grad():  # every object is there, so that what is shown is what is predicted
        task.model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(100.0)
    dataset = make_data().train_dataloader().dataset.dataset
    batch = dataset[0, 4]
    image = batch.frames[0]
    person = ClipPerson(batch.frames, "point")
    found = task.loss_terms(batch)
    features = encode(task.model, image)
    first = person.first(0)
    prediction = task.model.decode(features, first, image.object_image, True)
    then = replace(person.correct(0, first, prediction.best()), masks=prediction.best().logits)
    corrected = task.model.decode(features, then, image.object_image, False)
    targets = task.loss.targets(image)
    rounds = [task.loss(prediction, targets), task.loss(corrected, targets)]
    for term, wanted in zip(found, zip(*rounds, strict=True), strict=True):
        assert term.item() == pytest.approx(sum(wanted).item(), rel=1e-5)


def test_a_run_on_both_reports_each_source_and_can_be_evaluated_later(tmp_path):
    run = fit(replace(SETTINGS, cache=Cache(str(tmp_path / "cache"))), tmp_path / "run")
    evaluate(run)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["num_images"] == 1 + 3
    assert set(report["by_source"]) == {"films", "stills"}
    assert set(report["by_source"]["films"]["tuned"]) == {"mask", "box", "clicks"}
    assert set(report["by_source"]["stills"]["tuned"]) == {"box", "clicks"}  # a given mask is all there is
    rows = pyarrow.parquet.read_table(tmp_path / "run/rows.parquet").to_pylist()
    assert {row["source"] for row in rows} == {"films", "stills"}
    again = evaluate(Run.load(tmp_path / "run"), folder=tmp_path / "again")
    assert again.by_source["stills"]["tuned"] == report["by_source"]["stills"]["tuned"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": SeveralSources({"a": IMAGES, "b": replace(IMAGES, seed=1)})}, "with data=mixture one such source"),
        ({"data": replace(SOURCES, on_error="skip")}, "nothing is left out of several sources"),
        ({"task": ClipTraining(mask=1, point=0, box=0)}, r"nothing is learned from images \(stills\) whose masks"),
        ({"tuning": OF_CLIPS.tuning}, r"the memory alone trains, which images \(stills\) do not use"),
    ],
)
def test_what_cannot_be_mixed_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(replace(SETTINGS, **changes), tmp_path)


def test_clips_among_images_are_images_without_task_video(tmp_path):
    settings = replace(SETTINGS, task=None, evaluation=replace(SETTINGS.evaluation, metrics=("iou",)))
    loading = Loading(batch_size=2, max_objects=2, min_area=4, num_workers=0, micro_batch=None, micro_objects=None)
    settings = replace(settings, loader=loading, tuning=Tuning("frozen"))
    report = evaluate(fit(settings, tmp_path))
    assert set(report.by_source) == {"films", "stills"}
    assert report.unit == "images"
