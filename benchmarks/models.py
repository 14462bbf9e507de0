"""Every model: its size, and seconds for an image and for masks of 32 objects at its own input size.

python -m benchmarks.models [--models sam_vit_b ...] [--objects 32]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import machine, seconds
from sam_train.models import PRESETS, build_model
from sam_train.structures import Prompts

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def row(preset: str, num_objects: int) -> list[str]:
    """The table's line on one model."""
    model = build_model(preset).to(DEVICE).eval()
    side = model.preprocessing.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, side, side, generator=generator).to(DEVICE)
    points = (torch.rand(num_objects, 1, 2, generator=generator) * side).to(DEVICE)
    prompts = Prompts(points, torch.ones(num_objects, 1, dtype=torch.long, device=DEVICE))
    object_image = torch.zeros(num_objects, dtype=torch.long, device=DEVICE)
    features = model.encode_image(images)
    encode = seconds({"encode": partial(model.encode_image, images)}, rounds=1)["encode"]
    decode = seconds({"decode": partial(model.decode, features, prompts, object_image, True)}, rounds=3)["decode"]
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return [preset, f"{millions:.1f}", str(side), f"{encode:.2f}", f"{decode:.2f}"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--objects", type=int, default=32)
    options = parser.parse_args()
    table = Table(title=f"float32, {machine()}")
    for column in ("model", "parameters (M)", "input", "encode (s)", f"decode {options.objects} objects (s)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for preset in track(options.models, description="models", transient=True):
        table.add_row(*row(preset, options.objects))
    Console().print(table)


if __name__ == "__main__":
    main()
