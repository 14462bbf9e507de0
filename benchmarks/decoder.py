"""Mask decoding of many objects: ours against ``transformers``, same weights, same prompts, equal outputs.

python -m benchmarks.decoder [--objects 1 32] [--models sam_vit_b sam2.1_hiera_tiny] [--rounds 5] [--clock processor]
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.measure import Clock, Step, machine, peak_megabytes, seconds
from sam_train.models import build_model
from sam_train.structures import ImageFeatures, Prompts

SIDE = 1024
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inputs(model: str, num_objects: int) -> tuple[ImageFeatures, Tensor]:
    """Features of one image, stored position by position as an encoder leaves them, and a click on each object."""
    generator = torch.Generator().manual_seed(0)

    def level(channels: int, side: int) -> Tensor:
        return torch.randn(1, side, side, channels, generator=generator).permute(0, 3, 1, 2).to(DEVICE)

    high_res = (level(32, 256), level(64, 128)) if model.startswith("sam2") else ()
    points = torch.rand(num_objects, 1, 2, generator=generator) * SIDE
    return ImageFeatures(level(256, 64), high_res), points.to(DEVICE)


def ours(model: str, num_objects: int, backward: bool) -> Step:
    """A decode of ``sam_train``, with gradients for everything if ``backward``."""
    torch.manual_seed(0)
    decoder = build_model(model).to(DEVICE)
    features, points = inputs(model, num_objects)
    prompts = Prompts(points, torch.ones(num_objects, 1, dtype=torch.long, device=DEVICE))
    object_image = torch.zeros(num_objects, dtype=torch.long, device=DEVICE)

    def masks() -> tuple[Tensor, Tensor]:
        prediction = decoder.decode(features, prompts, object_image, True)
        return prediction.logits, prediction.iou

    return partial(run, masks, decoder, backward)


def theirs(model: str, num_objects: int, backward: bool) -> Step:
    """The same of ``transformers``, with our weights."""
    decoder = peer(model).to(DEVICE)
    features, points = inputs(model, num_objects)
    no_memory = getattr(decoder, "no_memory_embedding", torch.zeros(1))  # ours adds it itself
    labels = torch.ones(1, num_objects, 1, dtype=torch.int, device=DEVICE)

    def masks() -> tuple[Tensor, Tensor]:
        position = decoder.get_image_wide_positional_embeddings()  # pyright: ignore[reportCallIssue]
        sparse, dense = decoder.prompt_encoder(  # pyright: ignore[reportCallIssue]
            input_points=points[None], input_labels=labels, input_boxes=None, input_masks=None
        )
        options = {"high_resolution_features": list(features.high_res)} if features.high_res else {}
        prediction = decoder.mask_decoder(  # pyright: ignore[reportCallIssue]
            image_embeddings=features.embedding + no_memory.view(1, -1, 1, 1),
            image_positional_embeddings=position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            **options,
        )
        return prediction[0][0], prediction[1][0]

    return partial(run, masks, decoder, backward)


def peer(model: str) -> nn.Module:
    """The transformers model with the weights that :func:`ours` draws."""
    import transformers

    from sam_train.checkpoints.huggingface import layout_of, to_huggingface

    torch.manual_seed(0)
    own = build_model(model)
    layout = layout_of(own)
    assert layout is not None
    if model.startswith("sam2"):
        decoder = transformers.Sam2Model(transformers.Sam2Config())
    else:
        decoder = transformers.SamModel(transformers.SamConfig(mask_decoder_config={"layer_norm_eps": 1e-5}))
    converted = to_huggingface(own.state_dict(), layout.renames, stores_copies=True)
    decoder.load_state_dict({name: value for name, value in converted.items() if name in decoder.state_dict()})
    return decoder


def run(masks: Step, decoder: nn.Module, backward: bool) -> tuple[Tensor, Tensor]:
    """One decode; with gradients of all weights if ``backward``."""
    decoder.zero_grad()
    with torch.set_grad_enabled(backward):
        logits, iou = masks()  # pyright: ignore[reportGeneralTypeIssues]
        if backward:
            (logits.square().mean() + iou.square().mean()).backward()
    return logits.detach(), iou.detach()


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--models", nargs="+", default=["sam_vit_b", "sam2.1_hiera_tiny"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=get_args(Clock), default="wall")
    arguments = parser.parse_args()
    table = Table(title=f"mask decoder at {SIDE} px, {machine()}, {arguments.clock} seconds")
    for column in ("model", "objects", "pass", "ours s", "transformers s", "times", "ours MB", "theirs MB", "share"):
        table.add_column(column, justify="right")
    for model in arguments.models:
        for num_objects in arguments.objects:
            for backward in (False, True):
                builds = {name: partial(build, model, num_objects, backward) for name, build in BUILDS.items()}
                steps = {name: build() for name, build in builds.items()}
                difference = (steps["ours"]()[0] - steps["theirs"]()[0]).abs().max().item()  # pyright: ignore[reportIndexIssue]
                assert difference < 1e-3, f"outputs differ by {difference}"
                time = seconds(steps, arguments.rounds, arguments.clock)
                memory = {name: peak_megabytes(build) for name, build in builds.items()}
                table.add_row(
                    model,
                    str(num_objects),
                    "forward + backward" if backward else "forward",
                    *(f"{time[name]:.3f}" for name in BUILDS),
                    f"{time['theirs'] / time['ours']:.2f}",
                    *(f"{memory[name]:.0f}" for name in BUILDS),
                    f"{memory['ours'] / memory['theirs']:.2f}",
                )
    Console(width=140).print(table)


BUILDS = {"ours": ours, "theirs": theirs}

if __name__ == "__main__":
    main()
