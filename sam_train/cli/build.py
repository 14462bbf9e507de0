"""From a composed configuration to the objects of a run."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import nn

from sam_train.checkpoints import load_checkpoint
from sam_train.data.check import check_sources
from sam_train.data.datamodule import SegmentationData
from sam_train.models import build_model
from sam_train.models.promptable import PromptableModel
from sam_train.structures import InputError

VERSIONS = ("sam-train", "torch", "lightning", "peft")


def base_model(config: DictConfig) -> PromptableModel:
    """The model before fine-tuning: the preset's weights, or random ones that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model.preset, config.model.image_size)
    if config.model.weights is not None:
        load_checkpoint(model, config.model.weights)
    return model


def tuned_model(config: DictConfig) -> PromptableModel:
    """The base model after surgery: what trains is set, adapters are in place."""
    model = base_model(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # adapters start from random numbers
        instantiate(config.tuning).apply(model)
    return model


def segmentation_data(config: DictConfig, model: PromptableModel) -> SegmentationData:
    """The loaders for a model, its data checked once, whatever the number of processes."""
    splits = instantiate(config.data).splits()
    if config.data.check and rank_zero_only.rank == 0:
        check_sources(splits)
    return SegmentationData(splits, model.preprocessing, instantiate(config.loader), config.seed)


def fingerprint(model: nn.Module) -> str:
    """A hash of all weights, by which a checkpoint knows the base it belongs to."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def record(config: DictConfig, base: nn.Module) -> dict[str, Any]:
    """What a checkpoint says of itself: plain values, enough to build its model again."""
    return {
        "config": OmegaConf.to_container(config, resolve=True),
        "base": fingerprint(base),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    }


def require_same_base(record: dict[str, Any], base: nn.Module, path: str) -> None:
    """Refuse a base model that a checkpoint was not trained from.

    Raises:
        InputError: If the weights differ.
    """
    if record["base"] != fingerprint(base):
        config = record["config"]["model"]
        raise InputError(
            f"{path} was trained from {config['preset']} with weights={config['weights']}, which are not the weights "
            "given now. Name the original file: weights=..."
        )
