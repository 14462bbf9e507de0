"""Make a run's tuned model the weights that come with the package: half precision, safetensors.

python -m scripts.ship_weights outputs/.../best.ckpt
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from sam_train.runs.run import Run
from sam_train.tuning.lora import merged_state_dict

WEIGHTS = Path(__file__).resolve().parents[1] / "sam_train" / "weights"


def main(checkpoint: Path) -> None:
    """Write ``sam_train/weights/<preset>.safetensors``."""
    run = Run.load(checkpoint)
    state = {name: tensor.to(torch.float16).contiguous() for name, tensor in merged_state_dict(run.tuned()).items()}
    assert all(tensor.isfinite().all() for tensor in state.values()), "a weight does not fit into half precision"
    WEIGHTS.mkdir(exist_ok=True)
    target = WEIGHTS / f"{run.model.preset}.safetensors"
    save_file(state, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
