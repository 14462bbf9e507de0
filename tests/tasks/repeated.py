"""Repeats work on two threads while other programs want the processors; prints what differed, or nothing.

Run as a program: only a new process can ask OpenMP's threads to give their processor to others while they wait.
"""

import subprocess
import sys
from pathlib import Path

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


def differing(first: dict[str, torch.Tensor], again: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in first if not torch.equal(first[name], again[name])]


def repeat_step(preset: str) -> list[str]:
    """Return the parameters whose gradient differs between repetitions of a step."""
    torch.manual_seed(0)
    model = build_model(preset, 128)
    Tuning("full").apply(model)
    task = ImageTask(model, PromptSimulator(box=1, point=1, corrections=1), SamLoss(), Optimization(), {}, True)
    images = EvalDataset(Squares(6), model.preprocessing, min_area=1)
    batch = collate([images[index] for index in (1, 4, 2)])  # with objects in uneven numbers

    def gradients() -> dict[str, torch.Tensor]:
        task.zero_grad()
        task.loss_of(batch).backward()
        return {name: value.grad for name, value in task.named_parameters() if value.grad is not None}

    first = gradients()
    return [name for _ in range(4) for name in differing(first, gradients())]


def resume(folder: Path) -> list[str]:
    """Return the weights that differ between a resumed run and one that went through."""

    def train(name: str, steps: int, **fit: object) -> dict[str, torch.Tensor]:
        task = make_task()
        task.record["horizon"] = 4
        make_trainer(folder / name, max_steps=steps).fit(task, make_data(2), **fit)
        return weights(task)

    whole = train("whole", 4)
    train("parts", 2)
    return differing(whole, train("parts", 4, ckpt_path=folder / "parts" / "last.ckpt", weights_only=True))


if __name__ == "__main__":
    torch.set_num_threads(2)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        what = sys.argv[1]
        differ = resume(Path(sys.argv[2])) if what == "resume" else repeat_step(what)
        sys.stdout.write("\n".join(differ))
    finally:
        for other in others:
            other.kill()
