"""Weights of the official models and of ours, to and from disk."""

from sam_train.checkpoints.adapters import save_adapters
from sam_train.checkpoints.io import load_checkpoint, save_checkpoint

__all__ = ["load_checkpoint", "save_adapters", "save_checkpoint"]
