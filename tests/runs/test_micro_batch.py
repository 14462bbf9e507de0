"""What fits is found from what a step keeps, and is the same whatever else runs."""

import pytest
import torch
from lightning import Callback

from sam_train.data.loading.settings import Loading
from sam_train.errors import InputError
from sam_train.runs import micro_batch
from sam_train.runs.micro_batch import MicroBatchFinder, kept_bytes
from tests.tasks.runs import make_data, make_task, make_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),
]


def test_what_is_kept_for_the_backward_pass_is_counted_at_its_height():
    weight = torch.nn.Linear(1000, 1000, bias=False)
    x = torch.ones(100, 1000)
    with kept_bytes(weight) as kept:
        first = weight(x).exp()  # x and the result are kept, the weight is not counted
        first.sum().backward()
        del first
        assert kept == [2 * 100 * 1000 * 4]
        weight(x).exp().sum().backward()  # after the first is freed: no higher
    assert kept == [2 * 100 * 1000 * 4]


class Untouched(Callback):
    """Sees what setting up has left of buffers, gradients and random numbers."""

    def __init__(self, task):
        self.buffers = {name: value.clone() for name, value in task.named_buffers()}
        self.random = torch.get_rng_state()

    def setup(self, trainer, pl_module, stage):
        assert torch.equal(torch.get_rng_state(), self.random)
        assert all(parameter.grad is None for parameter in pl_module.parameters())
        assert all(torch.equal(value, self.buffers[name]) for name, value in pl_module.named_buffers())


def find(folder, task, loading, *callbacks, max_objects=3):
    options = {"limit_train_batches": 0, "limit_val_batches": 0}
    trainer = make_trainer(folder, callbacks=[MicroBatchFinder(loading, max_objects), *callbacks], **options)
    with torch.random.fork_rng():
        data = make_data(4)
    trainer.fit(task, data)
    return task.record["micro_batch"], task.record["micro_objects"]


@pytest.mark.parametrize("tuning", [{"mode": "full", "preset": "mobile_sam"}, {"mode": "lora", "dropout": 0.5}])
def test_measuring_leaves_no_trace(tmp_path, capsys, tuning):
    task = make_task(**tuning)
    assert find(tmp_path, task, Loading(), Untouched(task)) == (4, 3)
    assert "memory: a step keeps about" in capsys.readouterr().out


def test_numbers_that_are_given_are_taken_and_a_resumed_run_keeps_its_own(tmp_path, capsys):
    assert find(tmp_path, make_task(), Loading(micro_batch=2, micro_objects=None)) == (2, None)
    task = make_task()
    task.record.update(micro_batch=1, micro_objects=2)
    assert find(tmp_path, task, Loading()) == (1, 2)
    assert "memory" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budget", "expected", "said"),
    [
        (8.0, (4, 8), "8 GB of 8\n"),
        (5.0, (2, 8), "2 of 4 images at once (loader.micro_batch), which changes no gradient"),
        (1.0, (1, 4), "4 of 8 objects at once (loader.micro_objects)"),
    ],
)
def test_the_largest_parts_that_fit_are_said_and_written_down(tmp_path, monkeypatch, capsys, budget, expected, said):
    monkeypatch.setattr(micro_batch, "_budget", lambda *_: budget * 1e9)
    monkeypatch.setattr(micro_batch, "_step_bytes", lambda trainer, task, example: example.num_objects * 0.25e9)
    assert find(tmp_path, make_task(), Loading(), max_objects=8) == expected
    assert said in capsys.readouterr().out


def test_what_cannot_fit_is_refused_with_remedies(tmp_path, monkeypatch):
    monkeypatch.setattr(micro_batch, "_budget", lambda *_: 1e3)
    with pytest.raises(InputError, match=r"one image with one object takes .* Try tuning=frozen"):
        find(tmp_path, make_task(), Loading())


def test_the_same_model_takes_the_same_bytes_every_time():
    counted = []
    for _ in range(2):
        task = make_task("full")
        with kept_bytes(task) as kept:
            task.loss_of(task.example(3)).backward()
        counted.append(kept[0])
    assert counted[0] == counted[1] > 1e6
