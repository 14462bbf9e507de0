"""The average of the weights: what validation sees, what checkpoints hold, and that training does not notice it."""

import pytest
import torch
from lightning import Callback

from sam_train.tasks.averaging import MovingAverage
from tests.tasks.runs import Losses, make_data, make_task, make_trainer, weights
from tests.tasks.test_image import StopAfter, assert_same

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


class Witness(Callback):
    """Remembers the weights after every step, and those that validation saw, by step."""

    def __init__(self) -> None:
        self.trained: dict[int, dict[str, torch.Tensor]] = {}
        self.validated: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained[trainer.global_step] = weights(pl_module)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.validated[trainer.global_step] = weights(pl_module)


def expected_average(trained, decay, last):
    """By the formula, in double precision."""
    average = {name: value.double() for name, value in trained[1].items()}
    for count in range(1, last):
        kept = min(decay, (1 + count) / (10 + count))
        average = {name: kept * value + (1 - kept) * trained[count + 1][name] for name, value in average.items()}
    return average


def run(folder, task, *callbacks, resumed=None, **options):
    trainer = make_trainer(folder, max_steps=8, val_check_interval=4, callbacks=[*callbacks], **options)
    trainer.fit(task, make_data(2), ckpt_path=resumed, weights_only=True)


def content(path):
    return torch.load(path, weights_only=True)


def of_model(state):
    return {name.removeprefix("model."): value for name, value in state.items()}


@pytest.mark.parametrize("decay", [0.999, 0.2])
def test_validation_and_checkpoints_have_the_average_of_the_formula(tmp_path, decay):
    task, witness = make_task(), Witness()
    run(tmp_path, task, witness, MovingAverage(decay))
    for step in (4, 8):
        assert_same(witness.validated[step], expected_average(witness.trained, decay, step), 1e-6)
    best, last = content(tmp_path / "best.ckpt"), content(tmp_path / "last.ckpt")
    assert_same(of_model(best["state_dict"]), witness.validated[best["global_step"]])
    assert_same(of_model(best["current_model_state"]), witness.trained[best["global_step"]])
    assert_same(of_model(last["state_dict"]), witness.validated[8])
    assert_same(of_model(last["current_model_state"]), witness.trained[8])  # a finished run, too, can go on
    assert_same(weights(task), witness.validated[8])
    halfway = max((witness.trained[4][name] - witness.validated[4][name]).abs().max() for name in weights(task))
    assert halfway > 1e-5


def test_training_does_not_notice(tmp_path):
    plain, averaged, losses = make_task(), make_task(), (Losses(), Losses())
    run(tmp_path / "plain", plain, losses[0])
    run(tmp_path / "averaged", averaged, losses[1], MovingAverage())
    assert losses[0].values == losses[1].values
    assert_same(weights(plain), of_model(content(tmp_path / "averaged" / "last.ckpt")["current_model_state"]))


STOPS = [pytest.param(0, 1, marks=pytest.mark.slow), pytest.param(3, 4, marks=pytest.mark.slow), (4, 5)]


@pytest.mark.parametrize(("stop_at", "saved_at"), STOPS)
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path, stop_at, saved_at, mode):
    tasks = [make_task(mode, keep_base=mode == "full") for _ in range(3)]
    run(tmp_path / "whole", tasks[0], MovingAverage())
    with pytest.raises(SystemExit):
        run(tmp_path / "part", tasks[1], StopAfter(stop_at), MovingAverage())
    path = tmp_path / "part" / "last.ckpt"
    assert content(path)["global_step"] == saved_at
    run(tmp_path / "part", tasks[2], MovingAverage(), resumed=path)
    assert_same(weights(tasks[0]), weights(tasks[2]))
    for name in ("best.ckpt", "last.ckpt"):
        whole, part = (content(tmp_path / folder / name) for folder in ("whole", "part"))
        assert whole["global_step"] == part["global_step"]
        for state in ("state_dict", "current_model_state", "averaging_state"):
            assert_same(whole[state], part[state])


def test_what_does_not_train_is_neither_averaged_nor_saved(tmp_path):
    task = make_task("lora", keep_base=False)
    before = weights(task)
    run(tmp_path, task, MovingAverage())
    frozen = {name for name, parameter in task.model.named_parameters() if not parameter.requires_grad}
    assert frozen
    after = weights(task)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    saved = content(tmp_path / "last.ckpt")
    for state in ("state_dict", "current_model_state"):
        assert not frozen & of_model(saved[state]).keys()
        trained = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
        assert trained <= saved[state].keys()


def test_accumulated_batches_are_averaged_once_a_step(tmp_path):
    task = make_task()
    run(tmp_path, task, MovingAverage(), accumulate_grad_batches=2)
    assert content(tmp_path / "last.ckpt")["averaging_state"]["n_averaged"] == 8
