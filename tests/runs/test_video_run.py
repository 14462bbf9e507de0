"""A model learns to follow objects, from settings to a report."""

import json
from dataclasses import replace

import pyarrow.parquet
import pytest
import torch

from sam_train.data.loading.clip_batch import collate_clips
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.data.world import ToySource
from sam_train.data.world.film import ToyVideoSource
from sam_train.errors import InputError
from sam_train.losses.sam_loss import SamLoss
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.run import Run, base_model, tuned_model
from sam_train.runs.settings import Evaluation, ModelChoice, Settings
from sam_train.tasks.center_training import CenterTraining
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tasks.video import VideoTask
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning
from tests.data.sources.volume_files import make_volumes

TRAINER = {"accelerator": "cpu", "max_steps": 2, "val_check_interval": 1, "enable_progress_bar": False}
SETTINGS = Settings(
    ToyVideoSource(4, 1, 1, num_frames=4, image_size=64),
    model=ModelChoice(image_size=64),
    tuning=Tuning("frozen", mask_decoder=False, prompt_encoder=False, memory="full"),
    loss=SamLoss(),
    loader=Loading(batch_size=2, max_objects=2, min_area=4, num_workers=0),
    trainer=TRAINER,
    evaluation=Evaluation(metrics=("j", "f", "j_and_f"), overlays=1),
    task=ClipTraining(num_frames=3, corrections=1, max_val_clips=1, max_val_frames=3),
)


def test_a_run_trains_the_memory_alone_reports_j_and_f_and_can_be_evaluated_later(tmp_path):
    run = fit(SETTINGS, tmp_path)
    evaluate(run)
    report = json.loads((tmp_path / "report.json").read_text())
    for model in ("untuned", "tuned"):
        assert set(report[model]) == {"mask", "box", "clicks"}
        for scores in report[model].values():
            assert set(scores) == {"j", "f", "j_and_f"}
            assert all(0 <= score <= 1 for score in scores.values())
    assert (report["unit"], report["num_images"], report["chosen_by"]) == ("clips", 1, "j_and_f")
    assert sorted(path.suffix for path in (tmp_path / "films").iterdir()) == [".mp4", ".png"]
    more = Evaluation(metrics=("iou",), corrected_frames=2, overlays=0)
    again = evaluate(Run.load(tmp_path), evaluation=more, folder=tmp_path / "again")
    assert [*again.metrics] == ["j", "f", "j_and_f", "iou"]
    assert {prompt: scores | {"iou": 0} for prompt, scores in again.tuned.items()} == {
        prompt: scores | {"iou": 0} for prompt, scores in report["tuned"].items()
    }
    assert {len(again.interactive[model]["j_and_f"]) for model in ("untuned", "tuned")} == {2}
    untuned, tuned = (dict(model.named_parameters()) for model in run.models().values())
    changed = {name for name in untuned if not torch.equal(untuned[name], tuned[name])}
    assert {name.split(".")[0] for name in changed} >= {"memory_attention", "memory_encoder", "maskmem_tpos_enc"}
    assert not any(name.startswith(("image_encoder", "sam_")) for name in changed)


def test_objects_of_volumes_are_followed_both_ways_and_scored_in_three_dimensions(tmp_path):
    data = VolumeSource(str(make_volumes(tmp_path / "data", 4)), split=(0.5, 0.25, 0.25), check=False)
    run = fit(replace(SETTINGS, data=data), tmp_path / "run")
    report = evaluate(run)
    assert set(report.volumes["tuned"]) == {"dice", "nsd", "hd95"}
    assert (report.volumes["num_volumes"], report.volumes["prompt"], report.unit) == (1, "box", "clips")
    rows = pyarrow.parquet.read_table(tmp_path / "run/rows.parquet").to_pylist()
    # 2 is on one slice alone, the last: on the others it is not to be found.
    assert {(row["category"], row["object"], row["frames"]) for row in rows} == {("1", 1, 3), ("2", 2, 3)}
    assert (tmp_path / "run/report.html").read_text().count("data:video/mp4") == 1


def make_task(**training) -> tuple[VideoTask, object]:
    settings = replace(SETTINGS, task=ClipTraining(num_frames=3, corrections=1, **training))
    model = tuned_model(base_model(settings.model, 0, True), {"tuning": None, "seed": 0} | described(settings))
    task = VideoTask(model, settings.task, settings.loss, Optimization(), {}, False)
    from sam_train.runs.tasks import clip_data

    data = clip_data(settings.data.splits(), model.preprocessing, settings.loader, 0, settings.task)
    return task, data


def described(settings: Settings) -> dict:
    from sam_train.runs.record import describe

    return {"tuning": describe(settings.tuning)}


@pytest.mark.parametrize("kind", ["mask", "point", "box"])
def test_the_loss_of_two_clips_is_the_sum_of_theirs(kind):
    """With prompts of one kind and no frame drawn, so that both clips are prompted alike."""
    chosen = {name: float(name == kind) for name in ("mask", "point", "box")}
    task, data = make_task(**chosen, conditioning=1, corrected=1)
    dataset = data.train_dataloader().dataset.dataset
    one, other = dataset[0, 0], dataset[0, 1]
    both = task.loss_of(collate_clips([one, other]))
    assert both.item() == pytest.approx((task.loss_of(one) + task.loss_of(other)).item(), rel=1e-4)


def test_frames_that_are_not_known_are_followed_but_teach_nothing():
    task, data = make_task(mask=1, point=0, box=0, conditioning=1)
    batch = data.train_dataloader().dataset.dataset[0, 0]
    everything = task.loss_of(batch)
    known = batch.known.clone()
    known[1] = False
    part = task.loss_of(replace(batch, known=known))
    assert 0 < part < everything
    nothing = task.loss_of(replace(batch, known=torch.tensor([True, False, False])[:, None].expand_as(known)))
    assert nothing == 0
    nothing.backward()  # it has a graph, as every device needs


def test_prompts_are_drawn_as_sam_2_draws_them():
    training = ClipTraining()
    known = torch.ones(8, 3, dtype=torch.bool)
    drawn = [training.draw(known, torch.Generator().manual_seed(seed)) for seed in range(400)]
    share = sum(kind == "mask" for kind, _ in drawn) / len(drawn)
    assert 0.42 < share < 0.58
    for kind, schedule in drawn:
        assert schedule.conditioning[0] == 0
        assert len(schedule.conditioning) in (1, 2)
        if kind == "mask":
            assert schedule.corrected == ()
        else:
            assert set(schedule.conditioning) <= set(schedule.corrected)
            assert len(schedule.corrected) <= 2
            assert schedule.num_corrections == 7
    assert {len(schedule.corrected) for _, schedule in drawn} == {0, 1, 2}
    known[3:] = False
    for seed in range(50):
        _, schedule = training.draw(known, torch.Generator().manual_seed(seed))
        assert max(*schedule.conditioning, *schedule.corrected, 0) < 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ToySource("shapes", 2, 1, 1, 64)}, "task=video: data are images"),
        ({"model": ModelChoice("sam_nano", image_size=64), "tuning": Tuning("frozen")}, "sam_nano has no memory"),
        ({"prompter": CenterTraining()}, "prompter=center: finds objects of images"),
    ],
)
def test_what_does_not_go_with_clips_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(replace(SETTINGS, **changes), tmp_path)


@pytest.mark.filterwarnings("ignore:p0_0 is the only patient")
def test_slices_of_one_volume_do_not_train_and_validate_what_is_followed_through_all_of_it(tmp_path):
    data = VolumeSource(str(make_volumes(tmp_path / "data", 1)), split=(0.5, 0.25, 0.25), check=False)
    with pytest.raises(InputError, match="task=video: slices of p0_0 are in train and in val"):
        fit(replace(SETTINGS, data=data), tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"), [({"num_frames": 0}, "num_frames=0"), ({"mask": 0, "point": 0, "box": 0}, "give one of")]
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClipTraining(**settings)
