"""Runs that were stopped: what they leave, and what may go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback

from sam_train.runs.trainer import cluster
from tests.e2e.commands import SMALL, assert_report, run, write_squares

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


class Interrupt(Callback):
    """Ctrl-C in the third step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_resumes_in_its_folder(trained, tmp_path, monkeypatch):
    interrupt = "+callbacks.interrupt={_target_: tests.e2e.test_resume.Interrupt}"
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, f"hydra.run.dir={tmp_path}", interrupt)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not (tmp_path / "report.json").exists()
    run("train", monkeypatch, *SMALL, f"resume={tmp_path}")
    assert assert_report(tmp_path) == assert_report(trained)


@pytest.mark.parametrize(
    ("setting", "before"),
    [
        ("trainer.max_steps=3", "trainer.max_steps was 4, is 3"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches was 1, is 2"),
        ("cache=on", "cache.views was None, is 1"),
    ],
)
def test_resuming_another_way_to_train_is_refused(setting, before, trained, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, setting, f"resume={trained}")
    assert before in capsys.readouterr().err


def test_a_finished_run_may_go_on_for_longer(tmp_path, monkeypatch):
    run("train", monkeypatch, *SMALL, f"hydra.run.dir={tmp_path}")
    run("train", monkeypatch, *SMALL, "trainer.max_steps=5", f"resume={tmp_path}")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5
    assert_report(tmp_path)


def test_a_failed_run_gives_the_ctrl_c_handler_back(tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, "optim.lr=1e30", f"hydra.run.dir={tmp_path}")
    assert "is not finite" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_with_another_model_is_refused(trained, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, "tuning=frozen", f"resume={trained}")
    error = capsys.readouterr().err
    assert "that run had other settings: tuning.encoder was lora, is frozen" in error
    assert "tuning.prompt_encoder" not in error


def test_resuming_on_another_number_of_devices_is_refused(trained, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, "trainer=ddp", "trainer.devices=2", f"resume={trained}")
    assert "that run had 1 devices in all, this command has 2" in capsys.readouterr().err


def test_resuming_with_other_images_is_refused(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path / "squares", 6)
    short = [argument for argument in SMALL if not argument.startswith("data.")]
    arguments = [*short, "data=folder", f"data.root={tmp_path}/squares"]
    run("train", monkeypatch, *arguments, f"hydra.run.dir={tmp_path}/run")
    for part in ("images", "masks"):
        (tmp_path / "squares" / part / "3.png").rename(tmp_path / "squares" / part / "9.png")
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *arguments, "trainer.max_steps=5", f"resume={tmp_path}/run")
    assert "images are not those of" in capsys.readouterr().err


def test_the_end_of_a_job_leaves_what_to_go_on_from(tmp_path):
    """A cluster signals the whole group, loading processes included."""
    long = [argument for argument in SMALL if not argument.startswith(("loader.num_workers", "trainer.max_steps"))]
    settings = ["loader.num_workers=1", "trainer.max_steps=100000", "trainer.val_check_interval=100000"]
    command = [sys.executable, "train.py", *long, *settings, f"hydra.run.dir={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as job:
        try:
            for _ in range(1000):
                tables = [path.read_text() for path in tmp_path.glob("metrics/*/metrics.csv")]
                if any("train/loss" in table for table in tables) or job.poll() is not None:  # it trains
                    break
                time.sleep(0.1)
            os.killpg(job.pid, signal.SIGTERM)
            _, errors = job.communicate(timeout=60)
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
    assert "stopped; go on with the same command" in errors, errors[-2000:]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] > 0


def test_slurm_keeps_no_checkpoints_of_its_own_and_torchrun_goes_first(monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    (environment,) = cluster()
    assert not environment.auto_requeue
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert cluster() == []


def test_what_a_run_began_with_stays_in_its_folder(trained, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("resumed-*"))
    before = (folder / ".hydra" / "overrides.yaml").read_text()
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "seed=1", f"resume={folder}")
    assert (folder / ".hydra" / "overrides.yaml").read_text() == before
    (later,) = (folder / ".hydra").glob("resumed-*")
    assert "seed=1" in (later / "overrides.yaml").read_text()


def test_a_sweep_cannot_go_on_with_a_run(trained, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "-m", *SMALL, "seed=0,1", f"resume={trained}", f"hydra.sweep.dir={tmp_path}")
    assert "leave out -m or resume" in capsys.readouterr().err


def test_a_checkpoint_in_place_of_its_folder_is_told(trained, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, f"resume={trained / 'last.ckpt'}")
    assert f"resume={trained}" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "argument"), [("train", "resume={}"), ("evaluate", "checkpoint={}/last.ckpt")])
def test_a_damaged_checkpoint_is_told(command, argument, trained, tmp_path, monkeypatch, capsys):
    whole = (trained / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    settings = SMALL if command == "train" else [f"hydra.run.dir={tmp_path}"]
    with pytest.raises(SystemExit):
        run(command, monkeypatch, *settings, argument.format(tmp_path))
    assert "last.ckpt: the end of the file is missing" in capsys.readouterr().err


def test_random_weights_may_have_been_others_on_another_machine(tmp_path, monkeypatch):
    run("train", monkeypatch, *SMALL, "model.weights=random", "tuning=full", f"hydra.run.dir={tmp_path}")
    path = tmp_path / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["sam_train"]["base"] = "that of another processor"
    torch.save(content, path)
    run("export", monkeypatch, f"checkpoint={path}", "format=meta", f"path={tmp_path / 'tuned.pth'}")
    assert (tmp_path / "tuned.pth").is_file()
    longer = ["model.weights=random", "tuning=full", "trainer.max_steps=5"]
    run("train", monkeypatch, *SMALL, *longer, f"resume={tmp_path}")
    assert torch.load(path, weights_only=True)["global_step"] == 5


class EndInValidation(Callback):
    """The end of a job in the validation before the first step."""

    def on_validation_start(self, trainer, pl_module):
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_end_of_a_job_before_the_first_step_is_told(tmp_path, monkeypatch, capsys):
    end = "+callbacks.end={_target_: tests.e2e.test_resume.EndInValidation}"
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stopped:
        run("train", monkeypatch, *SMALL, f"hydra.run.dir={tmp_path}", end)
    assert stopped.value.code == 128 + signal.SIGTERM
    expected = "stopped before the first step; nothing to go on from: give the same command again"
    assert expected in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
