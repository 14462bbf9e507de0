"""The same step has the same digits, also with several threads on a busy machine."""

import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from sam_train.data.loading.collate import collate
from sam_train.data.loading.dataset import EvalDataset
from sam_train.losses.sam_loss import SamLoss
from sam_train.models import build_model
from sam_train.prompts.simulator import PromptSimulator
from sam_train.tasks.image import ImageTask
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning
from tests.data.samples import Squares
from tests.tasks.runs import make_data, make_task, make_trainer, weights

BUSY = "import torch; torch.set_num_threads(2); x = torch.rand(500, 500)\nwhile True: x = (x @ x).tanh()"


@contextmanager
def busy_machine(num_threads: int):
    """Compute on this many threads while other programs want the processors, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()
        torch.set_num_threads(before)


@pytest.mark.parametrize("preset", ["sam_nano", "sam2_nano"])
def test_a_step_repeats_to_the_last_digit(preset):
    torch.manual_seed(0)
    model = build_model(preset, 256)
    Tuning("full").apply(model)
    task = ImageTask(model, PromptSimulator(box=1, point=1, corrections=1), SamLoss(), Optimization(), {}, True)
    images = EvalDataset(Squares(6), model.preprocessing, min_area=1)
    batch = collate([images[index] for index in (1, 4, 2)])  # with objects in uneven numbers

    def gradients():
        task.zero_grad()
        task.loss_of(batch).backward()
        return [parameter.grad for parameter in task.parameters() if parameter.grad is not None]

    with busy_machine(num_threads=2):
        first = gradients()
        for _ in range(4):
            assert all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True))


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*exists and is not empty", "ignore:.*in eval mode at the start"
)
def test_a_resumed_run_is_the_uninterrupted_one_on_a_busy_machine(tmp_path):
    def train(folder, steps, **fit):
        task = make_task()
        make_trainer(tmp_path / folder, max_steps=steps).fit(task, make_data(2), **fit)
        return weights(task)

    with busy_machine(num_threads=2):
        whole = train("whole", 4)
        train("parts", 2)
        resumed = train("parts", 4, ckpt_path=tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
