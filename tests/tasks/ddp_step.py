"""One optimizer step on however many processes, validated on one image; as a script, writes weights, loss, score."""

import sys
from pathlib import Path

import torch

from sam_train.tasks.center_training import CenterTraining
from tests.data.samples import Squares
from tests.tasks.runs import head_weights, make_data, make_task, make_trainer, weights

if __name__ == "__main__":
    folder, devices, batch_size, accumulate = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    strategy = "ddp_find_unused_parameters_true" if devices > 1 else "auto"
    task = make_task(prompter=CenterTraining())
    trainer = make_trainer(
        folder,
        devices=devices,
        strategy=strategy,
        max_steps=1,
        precision="64-true",
        val_check_interval=1,
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(task, make_data(batch_size, val=Squares(1, first=3), with_boxes=True))
    if trainer.is_global_zero:
        names = ("train/loss", "train/center_heat", "val/iou")
        logged = {name: trainer.callback_metrics[name].item() for name in names}
        torch.save({"weights": {**weights(task), **head_weights(task)}, "logged": logged}, folder / "result.pt")
