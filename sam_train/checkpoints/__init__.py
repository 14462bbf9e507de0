"""Weights from disk into models, and out of them in the formats of other programs."""

from sam_train.checkpoints.adapters import save_adapters
from sam_train.checkpoints.io import load_checkpoint, save_checkpoint

__all__ = ["load_checkpoint", "save_adapters", "save_checkpoint"]
