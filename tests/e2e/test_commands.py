"""Train, resume, evaluate: what a person types and what lies in the folder afterwards."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import hydra.core.utils
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

from sam_train.cli import compose
from sam_train.errors import InputError
from sam_train.export import hub
from tests.e2e.commands import SMALL, assert_report, run, write_squares

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def test_a_run_leaves_checkpoints_a_report_and_pictures(trained):
    report = assert_report(trained)
    assert report["num_images"] == 3
    assert report["num_objects"] > 0
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(trained / name, weights_only=True)
        assert content["sam_train"]["config"]["model"]["preset"] == "sam2_nano"
    (picture,) = (trained / "overlays").glob("*.png")
    with Image.open(picture) as image:
        assert image.size[0] > 600
    header, *rows = (trained / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "val/iou" in header
    assert "train/loss" in header
    assert len(rows) >= 3


@pytest.mark.parametrize(("layout", "is_told"), [("meta", True), ("huggingface", False)])
def test_a_layout_that_cannot_hold_the_inputs_size_is_told_with_it(
    layout, is_told, trained, tmp_path, monkeypatch, capsys
):
    run("export", monkeypatch, f"checkpoint={trained}/best.ckpt", f"format={layout}", f"path={tmp_path}/model")
    told = capsys.readouterr().out
    assert ("tuned at an input of 64 px" in told) == is_told
    assert "logits differ by at most" in told
    card = tmp_path / ("model/README.md" if layout == "huggingface" else "model.README.md")
    assert f"model card: {card}" in told
    report = json.loads((trained / "report.json").read_text())
    assert f"{report['num_objects']} objects of 3 held-out images" in card.read_text()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("weights=moved.pth", r"weights=moved\.pth: no such file or folder"),
        ("format=savedmodel", r"format=savedmodel: no such format; this model can be exported as huggingface, meta,"),
        ("path=/proc/model", r"path=/proc/model: cannot be written"),
        ("push=polyps", r"push=polyps: expected USER/NAME"),
    ],
)
def test_what_stands_in_the_way_of_an_export_is_told(argument, message, trained, tmp_path, monkeypatch, capsys):
    path = [] if argument.startswith("path=") else [f"path={tmp_path}/model"]
    with pytest.raises(SystemExit) as ended:
        run("export", monkeypatch, f"checkpoint={trained}/best.ckpt", *path, argument)
    assert ended.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "model").exists()


def test_the_card_of_an_export_that_was_not_uploaded_names_no_repository(trained, tmp_path, monkeypatch, capsys):
    def refuse(path, repository):
        assert f"# {repository}" in (tmp_path / "model.pt.README.md").read_text()
        raise InputError(f"push={repository}: refused")

    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    monkeypatch.setattr(hub, "push", refuse)
    given = [f"checkpoint={trained}/best.ckpt", "format=meta", f"path={tmp_path}/model.pt", "push=person/polyps"]
    with pytest.raises(SystemExit):
        run("export", monkeypatch, *given)
    assert "push=person/polyps: " in capsys.readouterr().err
    card = (tmp_path / "model.pt.README.md").read_text()
    assert "# model.pt" in card
    assert "person/polyps" not in card


def test_evaluating_the_checkpoint_repeats_the_report_to_the_last_digit(trained, tmp_path, monkeypatch):
    arguments = [f"checkpoint={trained}/best.ckpt", f"hydra.run.dir={tmp_path}", "evaluation.overlays=0"]
    run("evaluate", monkeypatch, "evaluation=short", *arguments)
    assert assert_report(tmp_path) == assert_report(trained)


def test_scores_do_not_depend_on_how_images_are_batched(trained, tmp_path, monkeypatch):
    arguments = [f"checkpoint={trained}/best.ckpt", f"hydra.run.dir={tmp_path}", "+loader.batch_size=3"]
    run("evaluate", monkeypatch, "evaluation=short", *arguments)
    assert assert_report(tmp_path) == assert_report(trained)


@pytest.mark.parametrize(("end", "last_step"), [(["trainer.max_steps=3"], 3), (["trainer.max_epochs=1"], 4)])
def test_the_last_step_is_validated_wherever_it_is(end, last_step, tmp_path, monkeypatch):
    short = [argument for argument in SMALL if not argument.startswith("trainer.max_steps")]
    run("train", monkeypatch, *short, *end, "trainer.val_check_interval=100", f"hydra.run.dir={tmp_path}")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == last_step
    table = (tmp_path / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    columns = table[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in table[1:]]
    assert [int(row["step"]) for row in rows if row["val/iou"]] == [0, last_step - 1]
    assert_report(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optim.learning_rate=1"], "optim.lr"),
        (["data=folder", "data.root=x", "trainer.max_step=6"], "nearest: trainer.max_steps"),
        (["data.root=x"], "data.root=x: no such file or folder"),
        (["data=folder", "data.root=my", "data"], "data: not key=value; a value with a space wants quotes"),
        (["data=foldr"], "data=folder"),
        (["model=sam_vitb"], "model=sam_vit_b"),
        (["optim.learning_rate=1", "loader.augmentation.zoom=[1,2]"], "nearest"),
        (["-m", "seed=0,1", "optim.learning_rate=1"], "nearest"),
        (["logger=null"], "possible are logger=csv, logger=wandb"),
        (["resume=nowhere"], "resume=nowhere: no such file or folder"),
        (["resume=configs"], "no last.ckpt there"),
        (["model.weights=nowhere.pth"], "nowhere.pth"),
        (["data=folder", "data.root=nowhere"], "nowhere"),
        (["model.image_size=100"], "multiples of 32"),
        (["trainer.precision=bf16-true"], "bf16-mixed"),
        (["model=sam_vit_b"], "model.weights=random"),
        (["evaluation.split=tset"], "evaluation.split=tset: expected one of train, val, test"),
        (["data.num_test=0"], "no images for test"),
        ([*SMALL, "loader.min_area=1e6"], "no validation image has an object as large as loader.min_area"),
        (["data=folder", "data.root='no[where]'"], "no[where]"),
        (["data=folder"], "data.root: not given"),
        (["data=folder", "data.root=/réf"], 'data.root="/réf"\''),
        (["trainer.max_steps=-1"], "training would never end"),
        (["trainer.max_steps=-5"], "trainer.max_steps=-5: expected a whole number, at least 1"),
        (["optim.lr=abc"], "optim.lr=abc: expected a number above 0"),
        (["loader.num_workers=-1"], "loader.num_workers=-1: expected a whole number, at least 0 or null"),
        (["trainer.precision=fp16"], "trainer.precision=fp16: expected one of auto, 32-true, bf16-mixed"),
        (["trainer.accelerator=mps"], "trainer.accelerator=mps: Lightning refuses this"),
        (
            [*SMALL, "trainer.accelerator=cpu", "trainer.devices=[0,1]"],
            "trainer.devices=[0, 1]: Lightning refuses this",
        ),
        (["+trainer.max_time=soon"], "trainer.max_time=soon: Lightning refuses this"),
        (["+trainer.no_such=1"], "trainer.no_such=1: Lightning refuses this"),
        (["evaluation.metrics=[dise]"], "nearest: dice"),
        (["callbacks.best.monitor=val/dise"], "validation measures val/dice, val/iou"),
        ([*SMALL, "trainer.devices=2"], "for several devices add trainer=ddp"),
        (["-m", *SMALL, "trainer=ddp", "trainer.devices=2", "seed=0,1"], "a sweep cannot train on 2 devices at once"),
    ],
)
def test_mistakes_are_named_without_a_traceback(arguments, expected, monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run("train", monkeypatch, *arguments, f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_progress_is_one_bar_of_all_steps(tmp_path, monkeypatch, capsys):
    shown = [argument for argument in SMALL if "progress" not in argument]
    run("train", monkeypatch, *shown, "data.num_train=4", f"hydra.run.dir={tmp_path}")
    lines = capsys.readouterr().out.replace("\r", "\n").splitlines()
    bars = [line for line in lines if line.startswith("Training, epoch")]
    assert "4/4" in bars[-1]
    assert any(line.startswith("Training, epoch 1:  50%") for line in bars)
    assert not any("v_num" in line for line in lines)
    assert "images: 4 train, 2 val, 3 test" in lines


def test_wandb_offline_gets_pictures(tmp_path, monkeypatch):
    arguments = [*SMALL, "logger=wandb", "logger.offline=true", "trainer.max_steps=2", f"hydra.run.dir={tmp_path}"]
    run("train", monkeypatch, *arguments)
    import wandb

    assert wandb.run is None  # finished: the next run of a sweep begins its own
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/val/masks_*.png"))
    assert "train/loss" in (tmp_path / "metrics/version_0/metrics.csv").read_text()  # curves of report.html
    failed = tmp_path / "wandb" / "run-20200101_000000-earlier"  # an earlier start that came to nothing
    failed.mkdir()
    (failed / "run-earlier.wandb").touch()
    run("train", monkeypatch, *arguments[:-2], "trainer.max_steps=3", f"resume={tmp_path}")
    first, second = (path.stem for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert first == second  # parts of one run


def test_a_sweep_ends_with_its_runs_side_by_side(tmp_path, monkeypatch, capsys):
    arguments = [*SMALL, "trainer.max_steps=2", f"hydra.sweep.dir={tmp_path}"]
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "-m", *arguments, "optim.lr=1e-4,1e30,1e-3", "evaluation.overlays=0")
    told = capsys.readouterr()
    assert "is not finite" in told.err
    shown = told.out.split("tuned IoU and change", 1)[1]
    assert "trainer.max_steps" not in shown  # the same for all
    rows = {name: line for line in shown.splitlines() for name in ("0.0001", "1e+30", "0.001") if f" {name} " in line}
    for number, rate in ((0, "0.0001"), (2, "0.001")):
        iou = assert_report(tmp_path / str(number))["tuned"]["clicks"]["iou"]
        assert f"{iou:.3f}" in rows[rate]
    assert "failed" in rows["1e+30"]
    assert "evaluation.split=val" in shown


def test_two_processes_report_as_one(tmp_path, monkeypatch):
    ddp = ["trainer=ddp", "trainer.devices=2", "callbacks=ema", "data.num_val=3"]  # of val one has two, the other one
    arguments = [*SMALL, *ddp, "loader.batch_size=1", f"hydra.run.dir={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("held-out images") == 1
    run(
        "evaluate",
        monkeypatch,
        "evaluation=short",
        f"checkpoint={tmp_path}/best.ckpt",
        f"hydra.run.dir={tmp_path}/alone",
    )
    assert assert_report(tmp_path) == assert_report(tmp_path / "alone")


def test_help_lists_the_choices():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for choice in ("sam_vit_b", "lora", "folder", "clicks"):
        assert choice in done.stdout


def test_images_that_trained_are_not_called_held_out(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path / "squares", 6)
    data = ["data=folder", f"data.root={tmp_path}/squares"]
    short = [argument for argument in SMALL if not argument.startswith("data.")]
    run("train", monkeypatch, *short, *data, "data.split=[0.5,0.25,0.25]", f"hydra.run.dir={tmp_path}/run")
    evaluate = [f"checkpoint={tmp_path}/run/best.ckpt", *data, f"hydra.run.dir={tmp_path}/again"]
    run("evaluate", monkeypatch, "evaluation=short", *evaluate)
    assert assert_report(tmp_path / "again") == assert_report(tmp_path / "run")
    with pytest.raises(SystemExit):
        run("evaluate", monkeypatch, "evaluation=short", *evaluate, "data.split=[0,0,1]")
    assert "3 of 6 images were in the train split" in capsys.readouterr().err


def test_an_image_in_two_splits_is_refused(tmp_path, monkeypatch, capsys):
    for split, first in (("train", 0), ("val", 4), ("test", 5)):
        write_squares(tmp_path / split, 2, first)
    data = ["data=folder", f"data.root={tmp_path}", f"hydra.run.dir={tmp_path}/run"]
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *(argument for argument in SMALL if not argument.startswith("data.")), *data)
    assert (
        "1 of 2 val images are test images, too, by their content, such as val/5 (val) and test/5"
        in capsys.readouterr().err
    )


def test_training_images_are_recognized_in_another_layout(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path / "squares" / "train", 3)
    write_squares(tmp_path / "squares" / "val", 2, first=3)
    short = [argument for argument in SMALL if not argument.startswith("data.")]
    data = ["data=folder", f"data.root={tmp_path}/squares"]
    with pytest.warns(UserWarning, match="no images for the test"):
        run("train", monkeypatch, *short, *data, f"hydra.run.dir={tmp_path}/run")
    evaluate = [f"checkpoint={tmp_path}/run/best.ckpt", "data=folder", f"hydra.run.dir={tmp_path}/again"]
    with pytest.raises(SystemExit):
        run(
            "evaluate",
            monkeypatch,
            "evaluation=short",
            *evaluate,
            f"data.root={tmp_path}/squares/train",
            "data.split=[0,0,1]",
        )
    assert "3 of 3 images were in the train split" in capsys.readouterr().err
    with pytest.raises(SystemExit), pytest.warns(UserWarning, match="no images for the test"):
        run(
            "evaluate",
            monkeypatch,
            "evaluation=short",
            f"checkpoint={tmp_path}/run/best.ckpt",
            f"hydra.run.dir={tmp_path}/again",
        )
    assert "evaluation.split=val scores validation images as what they are" in capsys.readouterr().err


def test_weights_and_data_are_found_again_from_any_folder(tmp_path, monkeypatch):
    write_squares(tmp_path / "squares", 6)
    (tmp_path / "sam2_nano").mkdir()  # no weights: the name is the package's
    monkeypatch.chdir(tmp_path)
    short = [argument for argument in SMALL if not argument.startswith("data.")]
    run("train", monkeypatch, *short, "data=folder", "data.root=squares", f"hydra.run.dir={tmp_path}/run")
    config = torch.load(tmp_path / "run" / "best.ckpt", weights_only=True)["sam_train"]["config"]
    assert config["data"]["root"] == f"{tmp_path}/squares"
    assert config["model"]["weights"] == "sam2_nano"
    (tmp_path / "squares").rename(tmp_path / "moved")  # images are known by their contents
    run("train", monkeypatch, *short, "data=folder", "data.root=moved", "trainer.max_steps=5", f"resume={tmp_path}/run")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 5


def test_a_run_without_a_best_checkpoint_reports_on_its_last(tmp_path, monkeypatch):
    run("train", monkeypatch, *SMALL, "callbacks.best=null", f"hydra.run.dir={tmp_path}")
    assert_report(tmp_path)


def test_a_mistake_that_a_loading_process_finds_is_told_as_any_other(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path, 6)
    for path in (tmp_path / "images").iterdir():
        path.write_text(f"no image {path.name}")
    short = [argument for argument in SMALL if not argument.startswith(("data.", "loader.num_workers"))]
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *short, "data=folder", f"data.root={tmp_path}", "data.check=false",
            "loader.num_workers=1", f"hydra.run.dir={tmp_path}/run")  # fmt: skip
    error = capsys.readouterr().err.replace("\n", "")
    assert "error: unreadable file: " in error
    assert "Traceback" not in error


def test_a_full_gpu_is_told_with_what_to_do(monkeypatch, capsys, tmp_path):
    def fail(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has ...")

    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["sam-train", f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit):
        compose.run("train", fail)
    assert "loader.max_objects" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(name, monkeypatch, tmp_path):
    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12, tzinfo=tz)

    monkeypatch.setattr(hydra.core.utils, "datetime", Noon)
    monkeypatch.chdir(tmp_path)

    def folder_of_a_run(*arguments: str) -> Path:
        found = []
        GlobalHydra.instance().clear()
        given = [f"checkpoint={ROOT}/train.py"] if name == "evaluate" else []
        monkeypatch.setattr(sys, "argv", [f"sam-{name}", *given, *arguments])
        compose.run(name, lambda config: found.append(Path(HydraConfig.get().runtime.output_dir)))
        return found[0]

    first, second = folder_of_a_run(), folder_of_a_run()
    monkeypatch.setenv("RANK", "1")  # of the second run: its first process has chosen for both
    third = folder_of_a_run()
    assert [first.name, second.name] == ["12-00-00", "12-00-00-2"]
    assert sorted(path.name for path in first.parent.iterdir()) == ["12-00-00", "12-00-00-2"]
    assert third.parent != first.parent
