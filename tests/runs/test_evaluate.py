"""An evaluation from beginning to end: complete, interrupted, on several devices, refused."""

import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

from sam_train.data.loading.settings import Loading
from sam_train.data.world import ToySource
from sam_train.errors import InputError
from sam_train.evaluation import comparison
from sam_train.metrics import HD95
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation, ModelChoice, Settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]

SHORT = Evaluation(overlays=0, pictures=1, protocols=("box", "clicks"), clicks=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    settings = Settings(
        ToySource("shapes", num_train=2, num_val=1, num_test=4, image_size=64),
        model=ModelChoice(image_size=64),
        loader=Loading(batch_size=2, max_objects=3, min_area=4, num_workers=0),
        trainer={"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False},
        evaluation=SHORT,
    )
    return fit(settings, folder).folder


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return evaluate(Run.load(trained), folder=folder), pq.read_table(folder / "rows.parquet")


def test_a_full_evaluation_leaves_all_it_promises(trained, tmp_path):
    evaluation = Evaluation(
        metrics=("dice", "iou", "boundary_iou", "nsd", "hd95"),
        protocols=("box", "box_10", "point", "clicks", "mask", "given"),
        clicks=6,
        overlays=1,
        pictures=2,
        controls=True,
        coco=True,
        forgetting=1,
    )
    report = evaluate(Run.load(trained), evaluation=evaluation, folder=tmp_path)
    assert list(report.tuned) == ["box", "box_10", "point", "clicks", "mask"]  # these data bring no prompts
    assert set(report.tuned["box"]) == set(evaluation.metrics)
    assert len(report.clicks["tuned"]["iou"]) == 6
    assert report.clicks["tuned"]["iou"][4] == pytest.approx(report.tuned["clicks"]["iou"])
    assert {"filled_box", "otsu", "shuffled"} == report.controls.keys()
    assert report.controls["shuffled"]["tuned"]["iou"] < report.tuned["box"]["iou"]
    assert report.forgetting["num_objects"] > 0
    assert report.coco["prompt"] == "box"
    assert 0 <= report.coco["tuned"]["AP"] <= 1
    assert set(report.calibration["tuned"]) == set(report.tuned)
    assert sum(part["num_objects"] for part in report.by_size.values()) == report.num_objects
    assert report.num_groups == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"report.json", "report.html", "rows.parquet", "rows.csv", "overlays"}
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("data:image/jpeg") == 6
    rows = pq.read_table(tmp_path / "rows.parquet")
    assert rows.num_rows == 6 * report.num_objects  # shuffled prompts, too: no image of these has a single object


def test_an_interrupted_evaluation_goes_on_to_the_same_report(trained, whole, tmp_path, monkeypatch):
    scored = []

    def stop_at_third(rows, models, batch, protocols, stops=True):
        scored.append(batch.ids[0])
        add_scores(rows, models, batch, protocols)
        if stops and len(scored) == 3:
            raise KeyboardInterrupt

    add_scores = comparison.add_scores
    monkeypatch.setattr(comparison, "add_scores", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Run.load(trained), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".rows-so-far"]
    monkeypatch.setattr(comparison, "add_scores", lambda *args: stop_at_third(*args, stops=False))
    report = evaluate(Run.load(trained), folder=tmp_path)
    assert len(scored) == 3 + 2  # the third image was not done
    assert report == whole[0]
    assert pq.read_table(tmp_path / "rows.parquet").equals(whole[1])
    assert not (tmp_path / ".rows-so-far").exists()


def test_rows_of_another_evaluation_are_refused(trained, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "add_scores", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Run.load(trained), folder=tmp_path)
    other = Evaluation(overlays=0, protocols=("box",))
    with pytest.raises(InputError, match=r"rows of another evaluation.* its protocols was \['box', 'clicks'\], is"):
        evaluate(Run.load(trained), evaluation=other, folder=tmp_path)


@pytest.mark.slow  # and test_two_processes_report_as_one is not
def test_two_devices_give_the_report_and_rows_of_one_to_the_last_digit(trained, whole, tmp_path):
    command = [sys.executable, "-m", "sam_train.cli.evaluate", f"checkpoint={trained}", f"output={tmp_path}"]
    asked = ["evaluation=short", "evaluation.overlays=0", "evaluation.protocols=[box,clicks]", "evaluation.clicks=2"]
    devices = ["devices=2", "accelerator=cpu", "loader.num_workers=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *asked, *devices], check=True, env=environment, capture_output=True, timeout=300)
    assert json.loads((tmp_path / "report.json").read_text())["tuned"] == whole[0].tuned
    assert pq.read_table(tmp_path / "rows.parquet").equals(whole[1])


@pytest.mark.parametrize(
    ("evaluation", "loading", "expected"),
    [
        (SHORT, {"min_area": 1e6}, "none of its 4 images has an object that can be scored"),
        (Evaluation(metrics=("nsd_1mm",)), {}, "nsd_1mm is in mm, and the data do not say how large their pixels are"),
        (Evaluation(protocols=("given",)), {}, "or kinds of prompt that the data have"),
        (Evaluation(split="val", protocols=("bx",)), {}, "no protocol 'bx'; nearest: box"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_a_remedy(trained, evaluation, loading, expected, tmp_path):
    with pytest.raises(InputError, match=expected):
        evaluate(Run.load(trained), evaluation=evaluation, folder=tmp_path, loading=loading)


def test_one_image_has_no_interval(trained, tmp_path):
    report = evaluate(Run.load(trained), evaluation=Evaluation(split="val", overlays=0), folder=tmp_path)
    assert report.num_groups == 1
    assert report.interval("box", "iou") is None
    assert "an interval cannot be had" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_checkpoint_of_something_else_is_called_by_name(trained, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.ckpt")
    with pytest.raises(InputError, match=r"model.ckpt: not a checkpoint of sam-train; weights go to model.weights"):
        Run.load(tmp_path / "model.ckpt")
    with pytest.raises(InputError, match="sam_nano"):
        evaluate(Run.load(trained, weights="sam_nano"), folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.ckpt"}


def test_ctrl_c_is_left_to_the_process_that_keeps_the_rows(monkeypatch):
    monkeypatch.setattr(comparison, "num_processors", lambda: 2)
    with comparison._scoring_processes([HD95]) as executor:
        assert executor is not None
        assert executor.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
