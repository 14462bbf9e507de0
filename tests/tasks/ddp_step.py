"""One optimiser step on however many processes; run as a script, writes the weights after it."""

import sys
from pathlib import Path

import torch

from tests.tasks.runs import make_data, make_task, make_trainer, weights

if __name__ == "__main__":
    folder, devices, batch_size, accumulate = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    strategy = "ddp_find_unused_parameters_true" if devices > 1 else "auto"
    task = make_task()
    trainer = make_trainer(
        folder,
        devices=devices,
        strategy=strategy,
        max_steps=1,
        limit_val_batches=0,
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(task, make_data(batch_size))
    if trainer.is_global_zero:
        torch.save(weights(task), folder / "weights.pt")
