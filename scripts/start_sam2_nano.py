"""Random weights of ``sam2_nano`` whose prompt encoder and mask decoder are those of ``sam_nano``.

A decoder that knows what a prompt means teaches a new image encoder from the first step: from random weights alone the
loss stood still for hundreds of steps.

python -m scripts.start_sam2_nano start.pth
"""

from __future__ import annotations

import sys

import torch

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.models import build_model

RENAMES = {"mlp.lin1": "mlp.layers.0", "mlp.lin2": "mlp.layers.1"}


def main(path: str) -> None:
    """Write them in Meta's layout."""
    torch.manual_seed(0)
    source, target = build_model("sam_nano"), build_model("sam2_nano")
    load_checkpoint(source, "sam_nano")
    state = target.state_dict()
    for name, value in source.state_dict().items():
        for theirs, ours in RENAMES.items():
            name = name.replace(theirs, ours)
        if not name.startswith("image_encoder."):
            assert state[f"sam_{name}"].shape == value.shape
            state[f"sam_{name}"] = value
    target.load_state_dict(state)
    save_checkpoint(target, path, "meta")


if __name__ == "__main__":
    main(sys.argv[1])
