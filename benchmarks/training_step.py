"""One step of LoRA training, image encoder included: ours against ``transformers`` with PEFT, equal gradients.

Rank 8 on every ``qkv`` of the image encoder, the mask decoder trains, box prompts on one image, float32.

python -m benchmarks.training_step [--objects 8 32] [--models sam_vit_b sam2.1_hiera_tiny] [--rounds 1]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.decoder import DEVICE, SIDE, peer
from benchmarks.measure import Step, machine, peak_megabytes, seconds
from sam_train.models import build_model
from sam_train.structures import Prompts
from sam_train.tuning.surgery import Tuning

RANK, ALPHA = 8, 16.0


def inputs(num_objects: int) -> tuple[Tensor, Tensor]:
    """A normalized image and boxes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, SIDE, SIDE, generator=generator)
    corners = torch.rand(num_objects, 2, 2, generator=generator) * SIDE
    return image.to(DEVICE), corners.sort(dim=1).values.to(DEVICE)


def ours(model: str, num_objects: int, checkpoint: bool = False) -> Step:
    """A step of ``sam_train``; with ``checkpoint`` the encoder's activations are made again in the backward pass."""
    torch.manual_seed(0)
    promptable = build_model(model)
    tuning = Tuning(
        "lora",
        prompt_encoder=False,
        targets=r".*\.attn\.qkv",
        rank=RANK,
        alpha=ALPHA,
        checkpoint_activations=checkpoint,
    )
    tuning.apply(promptable)
    draw_adapters(promptable)
    promptable.to(DEVICE).train()
    image, corners = inputs(num_objects)
    labels = torch.tensor([2, 3], device=DEVICE).expand(num_objects, 2)
    object_image = torch.zeros(num_objects, dtype=torch.long, device=DEVICE)

    def forward() -> tuple[Tensor, Tensor]:
        features = promptable.encode_image(image)
        prediction = promptable.decode(features, Prompts(corners, labels), object_image, True)
        return prediction.logits, prediction.iou

    return partial(run, forward, promptable)


def theirs(model: str, num_objects: int) -> Step:
    """The same of ``transformers``, with our weights."""
    from peft import LoraConfig, inject_adapter_in_model

    promptable = peer(model)
    for name, parameter in promptable.named_parameters():
        parameter.requires_grad_(name.startswith("mask_decoder.") and ".conv_s" not in name)
    trained = [name for name, parameter in promptable.named_parameters() if parameter.requires_grad]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=r"vision_encoder\..*\.attn\.qkv")  # pyright: ignore[reportArgumentType]
    inject_adapter_in_model(config, promptable)
    for name, parameter in promptable.named_parameters():
        parameter.requires_grad_(name in trained or ".lora_" in name)
    draw_adapters(promptable)
    promptable.to(DEVICE).train()
    image, corners = inputs(num_objects)
    boxes = corners.flatten(1)[None]

    def forward() -> tuple[Tensor, Tensor]:
        prediction = promptable(pixel_values=image, input_boxes=boxes, multimask_output=True)
        return prediction.pred_masks[0], prediction.iou_scores[0]

    return partial(run, forward, promptable)


def draw_adapters(model: nn.Module) -> None:
    """The same adapters for both, none of them zero: then every gradient says something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02


def run(forward: Step, model: nn.Module) -> Tensor:
    """Forward, backward and the adapters' gradients."""
    model.zero_grad()
    logits, iou = forward()  # pyright: ignore[reportGeneralTypeIssues]
    (logits.square().mean() + iou.square().mean()).backward()
    gradients = [parameter.grad for name, parameter in model.named_parameters() if ".lora_" in name]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def remember(results: dict[str, Tensor], name: str, step: Step) -> None:
    """Run a step and keep its result."""
    result = step()
    assert isinstance(result, Tensor)
    results[name] = result


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--models", nargs="+", default=["sam_vit_b", "sam2.1_hiera_tiny"])
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    table = Table(title=f"LoRA training step at {SIDE} px, {machine()}, {arguments.rounds} rounds")
    for column in ("model", "objects", "who", "seconds", "times", "peak MB", "share"):
        table.add_column(column, justify="right")
    for model in arguments.models:
        for num_objects in arguments.objects:
            for row in compare(model, num_objects, arguments.rounds):
                table.add_row(model, str(num_objects), *row)
    Console(width=140).print(table)


def compare(model: str, num_objects: int, rounds: int) -> list[tuple[str, ...]]:
    """Who, seconds, how many times as fast as the peer, peak megabytes and their share of the peer's."""
    builds = {
        "transformers + peft": partial(theirs, model, num_objects),
        "ours": partial(ours, model, num_objects),
        "ours, checkpointing": partial(ours, model, num_objects, True),
    }
    memory = {name: peak_megabytes(build) for name, build in builds.items()}
    gradients: dict[str, Tensor] = {}
    steps = {name: partial(remember, gradients, name, build()) for name, build in builds.items()}
    time = seconds(steps, rounds)
    scale = gradients["transformers + peft"].abs().max().item()
    for gradient in gradients.values():
        torch.testing.assert_close(gradient, gradients["transformers + peft"], rtol=0, atol=1e-3 * scale)
    return [
        (
            name,
            f"{time[name]:.2f}",
            f"{time['transformers + peft'] / time[name]:.2f}",
            f"{memory[name]:.0f}",
            f"{memory[name] / memory['transformers + peft']:.2f}",
        )
        for name in builds
    ]


if __name__ == "__main__":
    main()
