"""The loss of 32 objects with three candidates each: ours against the same terms written plainly, equal gradients.

python -m benchmarks.loss [--objects 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from monai.losses.dice import DiceLoss
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from benchmarks.decoder import DEVICE, SIDE
from benchmarks.measure import Step, machine, peak_megabytes, seconds
from sam_train.losses.sam_loss import SamLoss, Targets
from sam_train.preprocessing import downscale_masks, resize_logits
from sam_train.structures import MaskPrediction


def ours(resolution: int, num_objects: int) -> Step:
    """Loss and gradient of ``sam_train``."""
    prediction, masks = inputs(num_objects)
    loss = SamLoss(resolution=resolution)
    targets = Targets(downscale_masks(masks, resolution))
    return partial(run, lambda: loss.total(loss(prediction, targets)), prediction)


def plain(resolution: int, num_objects: int) -> Step:
    """The same terms for all objects and candidates at once, the best candidate picked afterwards, as SAM 2 trains."""
    prediction, masks = inputs(num_objects)
    targets = downscale_masks(masks, resolution)

    def total() -> Tensor:
        logits = resize_logits(prediction.logits, (targets.shape[-2], targets.shape[-1]))
        truth = targets[:, None].expand_as(logits)
        focal = sigmoid_focal_loss(logits, truth.to(logits.dtype), 0.25, 2.0).mean(dim=(2, 3))
        dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")(logits, truth).flatten(1)
        overlap, union = ((logits > 0) & truth).sum(dim=(2, 3)), ((logits > 0) | truth).sum(dim=(2, 3))
        error = (prediction.iou - overlap / union.clamp(min=1)).abs().mean(dim=1)
        return ((20 * focal + dice).min(dim=1).values + error).sum()

    return partial(run, total, prediction)


def inputs(num_objects: int) -> tuple[MaskPrediction, Tensor]:
    """Logits and estimates that ask for gradients, and masks."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_objects, 3, SIDE // 4, SIDE // 4, generator=generator).to(DEVICE).requires_grad_()
    iou = torch.rand(num_objects, 3, generator=generator).to(DEVICE).requires_grad_()
    masks = torch.rand(num_objects, SIDE, SIDE, generator=generator) > 0.6
    return MaskPrediction(logits, iou), masks.to(DEVICE)


def run(total: Step, prediction: MaskPrediction) -> tuple[Tensor, ...]:
    """Value, and gradients of logits and estimates."""
    value = total()
    assert isinstance(value, Tensor)
    return value.detach(), *torch.autograd.grad(value, [prediction.logits, prediction.iou])


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table(title=f"loss of {arguments.objects} objects x 3 candidates at {SIDE} px, {machine()}")
    for column in ("masks compared at", "plain s", "ours s", "times", "plain MB", "ours MB", "share"):
        table.add_column(column, justify="right")
    for resolution in (SIDE // 4, SIDE):
        builds = {
            "plain": partial(plain, resolution, arguments.objects),
            "ours": partial(ours, resolution, arguments.objects),
        }
        steps = {name: build() for name, build in builds.items()}
        for one, other in zip(steps["plain"](), steps["ours"](), strict=True):  # pyright: ignore[reportArgumentType]
            torch.testing.assert_close(one, other)
        time = seconds(steps, arguments.rounds)
        memory = {name: peak_megabytes(build) for name, build in builds.items()}
        table.add_row(
            f"{resolution} px",
            *(f"{time[name]:.2f}" for name in builds),
            f"{time['plain'] / time['ours']:.2f}",
            *(f"{memory[name]:.0f}" for name in builds),
            f"{memory['ours'] / memory['plain']:.2f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
