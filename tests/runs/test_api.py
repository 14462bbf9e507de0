"""A run from Python: no command line, no Hydra."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

from sam_train.data.loading.settings import Loading
from sam_train.data.world import ToySource
from sam_train.errors import InputError
from sam_train.prompts.protocols import EVALUATION
from sam_train.runs import run as run_module
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.record import MOVED, describe
from sam_train.runs.run import Run
from sam_train.runs.settings import TRAINER, Evaluation, ModelChoice, Settings
from sam_train.tuning.surgery import Tuning
from tests.metrics.own import AREA_ERROR
from tests.third_party.discs import Discs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

LOADING = Loading(batch_size=2, max_objects=3, min_area=4, num_workers=0)
METRICS = ("iou", "tests.metrics.own.AREA_ERROR")


def settings(**changes):
    return Settings(
        **{
            "data": Discs(),
            "model": ModelChoice(image_size=64),
            "loader": LOADING,
            "trainer": {"accelerator": "cpu", "max_steps": 2, "enable_progress_bar": False},
            "evaluation": Evaluation(overlays=1, metrics=METRICS),
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    reads = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        load = run_module.load_checkpoint
        monkeypatch.setattr(run_module, "load_checkpoint", lambda *args: reads.append(args) or load(*args))
        run = fit(settings(), folder)
        report = evaluate(run)
    return run, report, reads


def test_the_base_is_read_once_for_training_and_report(finished):
    assert len(finished[2]) == 1


def test_a_run_has_its_untuned_and_its_tuned_model(finished):
    run = finished[0]
    loaded = Run.load(run.folder)
    assert loaded.checkpoint == run.folder / "best.ckpt"
    for one, other in ((run.untuned(), loaded.untuned()), (run.tuned(), loaded.tuned())):
        assert not one.training
        states = one.state_dict(), other.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert run.untuned() is run.untuned()
    frozen, own = run.tuned().image_encoder, run.untuned().image_encoder
    assert frozen.trunk.patch_embed.proj.weight.data_ptr() == own.trunk.patch_embed.proj.weight.data_ptr()


def test_a_metric_of_ones_own_is_in_report_rows_and_choice(finished):
    run, report, _ = finished
    assert report.metrics["area_error"] == {"title": "area error", "higher_is_better": False}
    assert list(report.tuned) == list(EVALUATION)
    assert json.loads((run.folder / "report.json").read_text())["tuned"] == report.tuned
    rows = pq.read_table(run.folder / "rows.parquet")
    for model, scores in (("untuned", report.untuned), ("tuned", report.tuned)):
        of_boxes = [row[f"{model}_area_error"] for row in rows.to_pylist() if row["prompt"] == "box"]
        assert sum(of_boxes) / len(of_boxes) == pytest.approx(scores["box"]["area_error"])
    before, after = (scores["box"]["area_error"] for scores in (report.untuned, report.tuned))
    assert report.gain("box", "area_error") == before - after


def test_the_best_checkpoint_follows_the_direction_of_its_metric(tmp_path):
    from sam_train.tasks.callbacks import BestCheckpoint

    best = BestCheckpoint(tmp_path, "best", monitor="val/area_error", enable_version_counter=False)
    run = fit(settings(), tmp_path, callbacks=[best])
    assert best.mode == "min"
    assert run.record["chosen_by"] == AREA_ERROR.name
    assert evaluate(run).chosen_by == AREA_ERROR.name


def test_evaluating_a_loaded_run_repeats_its_report(finished, tmp_path):
    run, report, _ = finished
    again = evaluate(Run.load(run.checkpoint), folder=tmp_path)
    assert again == report
    with pytest.raises(InputError, match="of 12 images were in the train split"):
        evaluate(Run.load(run.checkpoint), Everything(), folder=tmp_path)


class Everything(Discs):
    """All images held out, those that trained among them."""

    def splits(self):
        from tests.third_party.discs import DiscImages

        return {"test": DiscImages(self.number)}


def test_classes_have_their_new_names_in_the_records_of_older_checkpoints(finished, tmp_path):
    checkpoint = finished[0].checkpoint
    content = torch.load(checkpoint, weights_only=True)
    (new,) = MOVED.values()
    assert content["sam_train"]["config"]["loader"]["_target_"] == new
    content["sam_train"]["config"]["loader"]["_target_"] = next(iter(MOVED))
    torch.save(content, tmp_path / "best.ckpt")
    assert Run.load(tmp_path).record["config"] == Run.load(checkpoint).record["config"]


def test_a_run_goes_on_where_it_was_interrupted(tmp_path):
    whole = fit(settings(trainer={**settings().trainer, "max_steps": 4}), tmp_path / "whole")
    fit(settings(), tmp_path / "part")
    longer = settings(trainer={**settings().trainer, "max_steps": 4})
    resumed = fit(longer, tmp_path / "part", resume=True)
    assert torch.load(tmp_path / "part" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert resumed.record["horizon"] == 2  # of the learning rate: where the first command ended
    assert whole.record["horizon"] == 4
    with pytest.raises(InputError, match=r"tuning.encoder was lora, is frozen"):
        fit(settings(tuning=Tuning("frozen")), tmp_path / "part", resume=True)


def test_defaults_are_those_of_the_command_line():
    from hydra import compose, initialize_config_dir

    from sam_train.cli.build import settings_of
    from sam_train.cli.overrides import CONFIGS

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train")
    composed = settings_of(config)
    ours = Settings(data=composed.data, model=ModelChoice(weights="sam2_nano"), tuning=Tuning("lora", rank=32))
    for part in ("model", "prompts", "loss", "optim", "loader", "cache", "seed", "tuning"):
        assert describe(getattr(composed, part)) == describe(getattr(ours, part)), part
    assert composed.trainer == dict(TRAINER)
    assert tuple(composed.evaluation.metrics) == tuple(ours.evaluation.metrics)


def test_a_toy_run_has_the_steps_and_objects_its_source_suggests(tmp_path):
    source = ToySource("shapes", num_train=4, num_val=1, num_test=1, image_size=64)
    trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}
    run = fit(settings(data=source, loader=Loading(batch_size=2, min_area=4, num_workers=0), trainer=trainer), tmp_path)
    assert run.record["config"]["loader"]["max_objects"] == ToySource.default_objects == 8
    assert run.record["config"]["trainer"]["max_steps"] == -1  # epochs say when to end


def test_importing_the_package_and_asking_for_help_loads_nothing_heavy():
    code = "import sys, sam_train, sam_train.cli.train; print({'torch', 'lightning', 'monai'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_prediction_does_without_lightning():
    code = "import sys, sam_train.cli.predict, sam_train.runs.opening, sam_train.runs.predict; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert not {"lightning", "torchmetrics", "transformers"} & set(done.stdout.split())


def test_a_step_may_be_split_otherwise_when_a_run_goes_on(tmp_path):
    fit(settings(), tmp_path)
    longer = {**settings().trainer, "max_steps": 3}
    smaller = settings(
        trainer=longer, loader=Loading(batch_size=2, max_objects=3, min_area=4, num_workers=0, micro_batch=1)
    )
    assert fit(smaller, tmp_path, resume=True).record["micro_batch"] == 1
