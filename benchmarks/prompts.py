"""What share of a LoRA training step the simulated person takes: 64 objects at 1024 px, prompted and corrected 7 times.

The simulator runs by itself on predictions that miss and take too much along the objects' edges. The step is put
together from its parts: one pass of the image encoder on one image, the decode and loss of the first prompts, and seven
times those of the fourth correction, all forward and backward; bfloat16 on CUDA, else float32.

python -m benchmarks.prompts [--models sam_vit_b sam2.1_hiera_tiny] [--objects 64] [--corrections 7] [--rounds 3]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.decoder import DEVICE, SIDE
from benchmarks.measure import Step, machine, seconds
from sam_train.losses.sam_loss import SamLoss
from sam_train.models import build_model
from sam_train.models.promptable import PromptableModel
from sam_train.prompts.simulator import PromptSimulator, is_ambiguous
from sam_train.structures import NUM_DRAWS, Batch, ImageFeatures, MaskPrediction, Prompts
from sam_train.tuning.surgery import Tuning

TYPICAL = 4  # the correction that stands for all of them


def make_batch(num_objects: int) -> tuple[Batch, Tensor]:
    """One image, wavy blobs of 20 to 300 pixels across anywhere on it, and how far inside its outline each pixel is."""
    generator = torch.Generator().manual_seed(0)
    size, wave, phase, x0, y0 = torch.rand(5, num_objects, 1, 1, generator=generator).unbind()
    place = torch.arange(SIDE, dtype=torch.float)
    x, y = place - x0 * SIDE, place[:, None] - y0 * SIDE
    outline = (10 + 140 * size**2) * (1 + 0.2 * torch.sin((2 + 4 * wave).floor() * torch.atan2(y, x) + 6 * phase))
    depth = outline - torch.hypot(x, y)
    full = torch.tensor([[SIDE, SIDE]])
    batch = Batch(
        images=torch.randint(256, (1, 3, SIDE, SIDE), generator=generator).to(torch.uint8),
        masks=depth > 0,
        object_image=torch.zeros(num_objects, dtype=torch.long),
        valid_size=full,
        original_size=full,
        draws=torch.rand(num_objects, NUM_DRAWS, generator=generator),
        ids=("image",),
    )
    return batch.to(DEVICE), depth


def predictions(depth: Tensor, number: int) -> list[MaskPrediction]:
    """For each round three candidates: the truth with its outline moved by up to some 25 pixels here and there."""
    generator = torch.Generator().manual_seed(1)
    fine = F.interpolate(depth[:, None], (SIDE // 4, SIDE // 4), mode="area")
    made = []
    for _ in range(number):
        noise = torch.randn(len(depth), 3, 24, 24, generator=generator)
        error = F.interpolate(noise, fine.shape[-2:], mode="bicubic") * 12
        made.append(MaskPrediction((fine + error) / 8, torch.rand(len(depth), 3, generator=generator)).to(DEVICE))
    return made


def simulate(simulator: PromptSimulator, batch: Batch, answers: list[MaskPrediction]) -> Prompts:
    """The first prompts and a correction of each answer."""
    prompts = simulator.first(batch)
    for number, prediction in enumerate(answers):
        prompts = simulator.correct(batch, prompts, prediction, number)
    return prompts


class Parts:
    """The parts of a training step, each forward and backward."""

    def __init__(self, name: str, batch: Batch) -> None:
        torch.manual_seed(0)
        self.model: PromptableModel = build_model(name)
        Tuning("lora").apply(self.model)
        self.model.to(DEVICE).train()
        self.batch = batch
        self.loss = SamLoss(mask=1, focal_alpha=-1, focal_gamma=0)  # configs/loss/medsam.yaml
        with torch.no_grad():
            self.features = self._encode()
        for level in (self.features.embedding, *self.features.high_res):
            level.requires_grad_()

    def _encode(self) -> ImageFeatures:
        assert self.batch.images is not None
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            return self.model.encode_image(self.model.preprocessing.normalize(self.batch.images, self.batch.valid_size))

    def encode(self) -> None:
        """The image encoder, with gradients of its adapters."""
        features = self._encode()
        levels = [features.embedding, *features.high_res]
        torch.autograd.backward(levels, [torch.ones_like(level) for level in levels])

    def decode(self, prompts: Prompts, multimask: bool | Tensor) -> None:
        """A round of decoding and its loss, with gradients of the decoder and of the features."""
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            prediction = self.model.decode(self.features, prompts, self.batch.object_image, multimask)
            total = self.loss.total(self.loss(prediction, self.loss.targets(self.batch)))
        total.backward()


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["sam_vit_b", "sam2.1_hiera_tiny"])
    parser.add_argument("--objects", type=int, default=64)
    parser.add_argument("--corrections", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    batch, depth = make_batch(options.objects)
    answers = predictions(depth, options.corrections)
    simulators = make_simulators(options.corrections)
    steps: dict[str, Step] = {name: partial(simulate, one, batch, answers) for name, one in simulators.items()}
    simulated = seconds(steps, options.rounds)
    title = f"{options.objects} objects at {SIDE} px, {options.corrections} corrections, {machine()}"
    table = Table(title=title)
    for column in ("model", "encoder s", "first round s", "correction s", "step s", "prompts", "simulator s", "share"):
        table.add_column(column, justify="left" if column in ("model", "prompts") else "right")
    first, typical = (simulate(simulators[CLICKS], batch, answers[:number]) for number in (0, TYPICAL))
    for model in options.models:
        parts = Parts(model, batch)
        decodes = {
            "first": partial(parts.decode, first, is_ambiguous(first)),
            "typical": partial(parts.decode, typical, multimask=False),
        }
        time = seconds({"encode": parts.encode, **decodes}, rounds=1)
        step = time["encode"] + time["first"] + options.corrections * time["typical"]
        for name, simulation in simulated.items():
            numbers = (*time.values(), step)
            share = f"{simulation / step:.2%}"
            table.add_row(model, *(f"{value:.3f}" for value in numbers), name, f"{simulation:.4f}", share)
    Console(width=150).print(table)


CLICKS = "clicks anywhere"


def make_simulators(corrections: int) -> dict[str, PromptSimulator]:
    """The cheapest and the dearest ways to prompt."""
    return {
        CLICKS: PromptSimulator(point=1, corrections=corrections),
        "clicks in the middle": PromptSimulator(center=1, corrections=corrections, correct_at="center"),
        "all kinds, then clicks in the middle": PromptSimulator(1, 1, 1, 1, 0.1, corrections, "center"),
    }


if __name__ == "__main__":
    main()
