"""Weights in and out: ``load_checkpoint`` and ``save_checkpoint``."""

from sam_train.checkpoints.io import load_checkpoint, save_checkpoint

__all__ = ["load_checkpoint", "save_checkpoint"]
