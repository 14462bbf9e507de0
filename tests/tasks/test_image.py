"""The laws of training: one process equals many, resumed equals uninterrupted, frozen stays frozen."""

import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from lightning import Callback

from sam_train.losses.sam_loss import LossTerms
from sam_train.prompts.simulator import PromptSimulator
from sam_train.tasks.callbacks import BestCheckpoint
from sam_train.tasks.center_training import CenterTraining
from sam_train.tasks.gradients import DivergenceError
from sam_train.tuning.optimization import Optimization
from tests.tasks.runs import Losses, head_weights, make_data, make_task, make_trainer, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


def assert_same(first, second, tolerance=0.0):
    assert first.keys() == second.keys()
    worst = max((first[name].float() - second[name].float()).abs().max().item() for name in first)
    assert worst <= tolerance, worst


def one_step(folder, devices, batch_size, accumulate):
    folder.mkdir()
    command = [sys.executable, "-m", "tests.tasks.ddp_step", str(folder), *map(str, (devices, batch_size, accumulate))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    result = torch.load(folder / "result.pt", weights_only=True)
    return result["weights"], result["logged"]


def test_two_processes_step_as_one(tmp_path):
    one, logged = one_step(tmp_path / "one", devices=1, batch_size=4, accumulate=1)
    two, logged_of_two = one_step(tmp_path / "two", devices=2, batch_size=2, accumulate=1)
    task = make_task(prompter=CenterTraining())
    start = {**weights(task), **head_weights(task)}
    assert max((one[name] - start[name]).abs().max().item() for name in one) > 1e-5
    assert_same(one, two, 1e-9)
    assert logged == pytest.approx(logged_of_two, rel=1e-9)  # scored on one image: the second process has none


def test_accumulated_batches_step_as_one(tmp_path):
    whole, parts, logged = make_task(), make_task(), []
    for task, batch_size, accumulate in ((whole, 4, 1), (parts, 1, 4)):
        options = {"max_steps": 1, "limit_val_batches": 0, "precision": "64-true"}
        trainer = make_trainer(tmp_path / str(batch_size), accumulate_grad_batches=accumulate, **options)
        trainer.fit(task, make_data(batch_size))
        logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert_same(weights(whole), weights(parts), 1e-10)
    assert logged[0].keys() == {"train/loss", *(f"train/{term}" for term in LossTerms._fields)}
    assert logged[1] == pytest.approx(logged[0], rel=1e-10)


class StopAfter(Callback):
    """Presses Ctrl-C during a step, as a person would, or sends what a cluster sends."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self.step = step
        self.number = number
        self.is_done = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and not self.is_done:
            self.is_done = True  # a second time stops at once
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("stop_at", "saved_at"), [pytest.param(0, 1, marks=pytest.mark.slow), (3, 4), (4, 5)])
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, stop_at, saved_at, mode):
    options = {"mode": mode, "keep_base": mode == "full", "dropout": 0.2 if mode == "lora" else 0.0}
    whole = make_task(**options)
    make_trainer(tmp_path / "whole", max_steps=8, val_check_interval=4).fit(whole, make_data(2))
    first = make_task(**options)
    stop = StopAfter(stop_at, signal.SIGTERM if stop_at == 3 else signal.SIGINT)
    trainer = make_trainer(tmp_path / "part", max_steps=8, val_check_interval=4, callbacks=[stop])
    with pytest.raises(SystemExit):
        trainer.fit(first, make_data(2))
    (tmp_path / "part").rename(tmp_path / "moved")
    path = tmp_path / "moved" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == saved_at
    second = make_task(**options)
    trainer = make_trainer(tmp_path / "moved", max_steps=8, val_check_interval=4)
    trainer.fit(second, make_data(2), ckpt_path=path, weights_only=True)
    assert trainer.global_step == 8
    assert_same(weights(whole), weights(second))
    best = [torch.load(tmp_path / run / "best.ckpt", weights_only=True) for run in ("whole", "moved")]
    assert best[0]["global_step"] == best[1]["global_step"]


def test_the_best_stays_the_best_where_a_run_is_resumed_in_another_place(tmp_path):
    first, second = BestCheckpoint(tmp_path / "there"), BestCheckpoint(tmp_path / "here")
    first.best_model_path, first.best_model_score = str(tmp_path / "there" / "best.ckpt"), torch.tensor(0.9)
    first.kth_best_model_path, first.kth_value = str(tmp_path / "there" / "next.ckpt"), torch.tensor(0.8)
    first.best_k_models = {first.best_model_path: torch.tensor(0.9), first.kth_best_model_path: torch.tensor(0.8)}
    second.load_state_dict(first.state_dict())
    best, following = (str(tmp_path / "here" / name) for name in ("best.ckpt", "next.ckpt"))
    assert (second.best_model_path, second.kth_best_model_path) == (best, following)
    assert (second.best_model_score, second.kth_value) == (torch.tensor(0.9), torch.tensor(0.8))
    assert second.best_k_models == {best: torch.tensor(0.9), following: torch.tensor(0.8)}


@pytest.mark.parametrize(
    ("batch_size", "options"),
    [
        pytest.param(6, {"val_check_interval": 2}, id="one batch an epoch"),
        pytest.param(6, {"val_check_interval": 1}, id="one batch an epoch, each validated"),
        pytest.param(3, {"val_check_interval": 1}, id="every batch is validated"),
        pytest.param(3, {"val_check_interval": 4, "accumulate_grad_batches": 4}, id="a step of two epochs"),
    ],
)
def test_ctrl_c_stops_a_run_on_few_images(tmp_path, capsys, batch_size, options):
    whole, first, second = make_task(), make_task(), make_task()
    make_trainer(tmp_path / "whole", **options).fit(whole, make_data(batch_size))
    with pytest.raises(SystemExit):
        make_trainer(tmp_path / "part", callbacks=[StopAfter(1)], **options).fit(first, make_data(batch_size))
    assert f"stopped; go on with the same command and resume={tmp_path}/part\n" in capsys.readouterr().err
    path = tmp_path / "part" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == 2
    trainer = make_trainer(tmp_path / "part", **options)
    trainer.fit(second, make_data(batch_size), ckpt_path=path, weights_only=True)
    assert trainer.global_step == 4
    assert_same(weights(whole), weights(second))
    best = [torch.load(tmp_path / run / "best.ckpt", weights_only=True) for run in ("whole", "part")]
    assert best[0]["global_step"] == best[1]["global_step"]


def test_a_checkpoint_leaves_out_what_can_be_read_again(tmp_path):
    task = make_task("lora", keep_base=False)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(task, make_data(2))
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["sam_train"] == {"note": "test", "horizon": 1}
    trained = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
    assert trained <= content["state_dict"].keys()
    assert not any("base_layer" in name or "pos_embed" in name for name in content["state_dict"])


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_frozen_weights_stay_and_the_rest_moves(tmp_path, mode):
    task = make_task(mode)
    before = weights(task)
    make_trainer(tmp_path, max_steps=2).fit(task, make_data(2))
    after = weights(task)
    trained = {name for name, parameter in task.model.named_parameters() if parameter.requires_grad}
    for name in before:
        if name not in trained:
            assert torch.equal(before[name], after[name]), name
    moved = {name for name in trained if not torch.equal(before[name], after[name])}
    assert len(moved) > 0.9 * len(trained)


def test_training_lowers_the_loss(tmp_path):
    task = make_task(simulator=PromptSimulator(box=1), optimization=Optimization(lr=5e-4))
    losses = Losses()
    make_trainer(tmp_path, max_steps=40, limit_val_batches=0, callbacks=[losses]).fit(task, make_data(4))
    assert sum(losses.values[-5:]) < 0.6 * sum(losses.values[:5])


class Poison(Callback):
    """Makes the loss infinite from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            pl_module.model.mask_decoder.iou_token.weight.data.fill_(float("nan"))


@pytest.mark.parametrize(("accumulate", "num_named"), [(1, 2), (2, 4)])
def test_a_gradient_that_is_no_number_stops_the_run_before_it_counts(tmp_path, accumulate, num_named):
    task = make_task()
    options = {"accumulate_grad_batches": accumulate, "limit_val_batches": 0}
    trainer = make_trainer(tmp_path, max_steps=1, **options)
    task.model.mask_decoder.iou_token.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(task)
    with pytest.raises(DivergenceError, match=r"gradient is not finite at step 0") as stopped:
        trainer.fit(task, make_data(2))
    assert len(set(re.findall(r"squares/\d", str(stopped.value)))) == num_named
    assert_same(before, weights(task))


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_samples(tmp_path):
    task = make_task()
    trainer = make_trainer(tmp_path, max_steps=8, val_check_interval=2, callbacks=[Poison(3)])
    with pytest.raises(DivergenceError, match=r"step 3, on a batch of: squares/\d.*squares/\d"):
        trainer.fit(task, make_data(2))
    good = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert good["global_step"] == 2
    assert all(value.isfinite().all() for value in good["state_dict"].values())
