"""From a composed configuration to the objects of a run."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from sam_train.checkpoints import load_checkpoint
from sam_train.data.check import check_sources
from sam_train.data.datamodule import SegmentationData
from sam_train.models import ImageModel, build_model
from sam_train.structures import InputError

VERSIONS = ("sam-train", "torch", "lightning", "peft")


def base_model(config: DictConfig) -> ImageModel:
    """The model before fine-tuning: the preset's weights, or random ones that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model.preset, config.model.image_size)
    if config.model.weights is not None:
        load_checkpoint(model, config.model.weights)
    return model


def tuned_model(config: DictConfig) -> ImageModel:
    """The base model after surgery: what trains is set, adapters are in place."""
    model = base_model(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # adapters start from random numbers
        instantiate(config.tuning).apply(model)
    return model


def segmentation_data(config: DictConfig, model: ImageModel, is_first: bool = True) -> SegmentationData:
    """The loaders for a model; the first process checks the data for all."""
    splits = instantiate(config.data).splits()
    if config.data.check and is_first:
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


def trained_config(checkpoint: Path) -> DictConfig:
    """The configuration a checkpoint was trained with.

    Raises:
        InputError: If the file is not a checkpoint of a run.
    """
    return DictConfig(_read(checkpoint)["sam_train"]["config"])


def _read(checkpoint: Path) -> dict[str, Any]:
    if not checkpoint.is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; best.ckpt and last.ckpt are in a run's folder")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if "sam_train" not in content:
        raise InputError(f"checkpoint={checkpoint}: not a checkpoint of sam-train; weights go to model.weights=...")
    return content


def load_pair(checkpoint: Path, config: DictConfig) -> tuple[ImageModel, ImageModel]:
    """The untuned and the tuned model of a checkpoint.

    Raises:
        InputError: If the base model's weights are not those it was trained from.
    """
    content = _read(checkpoint)
    untuned, tuned = base_model(config), tuned_model(config)
    _require_same_base(content["sam_train"], untuned, str(checkpoint))
    state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    tuned.load_state_dict({**tuned.state_dict(), **state})
    return untuned, tuned


def _require_same_base(record: dict[str, Any], base: nn.Module, path: str) -> None:
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
