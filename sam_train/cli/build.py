"""From a composed configuration to the objects of a run."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Int
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.reading import read_file
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.sources.base import ImageSet, Split
from sam_train.data.sources.check import check_sources
from sam_train.errors import InputError
from sam_train.machine import num_processors
from sam_train.models import ImageModel, build_model

VERSIONS = ("sam-train", "torch", "lightning", "peft")
SAFE_TARGETS = {
    f"sam_train.{place}"
    for place in (
        "tuning.surgery.Tuning",
        "data.sources.folder.FolderSource",
        "data.world.ToySource",
        "data.loading.datamodule.Loading",
        "data.loading.augmentation.Augmentation",
    )
}
"""What a checkpoint may ask to be built: anything else in it would be code of a stranger's choice."""


def base_model(config: DictConfig) -> ImageModel:
    """The model before fine-tuning: the preset's weights, or random ones that depend on the seed alone.

    Raises:
        InputError: If no weights are named: adapting noise would look like a gain.
    """
    preset, weights = config.model.preset, config.model.weights
    if weights is None:
        raise InputError(
            f"model.weights: {preset} comes without weights; the README's table of models links the official ones. "
            "Then model.weights=<file>, or model.weights=random to train from nothing"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(preset, config.model.image_size)
    if weights != "random":
        load_checkpoint(model, weights)
    return model


def tuned_model(config: DictConfig) -> ImageModel:
    """The base model after surgery: what trains is set, adapters are in place."""
    model = base_model(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # adapters start from random numbers
        instantiate(config.tuning).apply(model)
    return model


def segmentation_data(
    config: DictConfig, model: ImageModel, needed: set[str], is_first: bool = True
) -> SegmentationData:
    """The loaders for a model; the first process checks the data for all.

    Raises:
        InputError: If there is no such split as one that is needed, or something is wrong with the data.
    """
    splits = instantiate(config.data).splits()
    if missing := [name for name in sorted(needed) if name not in splits or not len(splits[name])]:
        have = ", ".join(f"{name} ({len(source)})" for name, source in splits.items())
        raise InputError(
            f"data: no images for {', '.join(missing)}; there are {have}. See data.split and evaluation.split"
        )
    if config.data.check and is_first:
        check_sources({name: splits[name] for name in splits if name in needed})
    return SegmentationData(splits, model.preprocessing, instantiate(config.loader), config.seed)


def fingerprint(model: nn.Module) -> str:
    """A hash of all weights, by which a checkpoint knows the base it belongs to."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def image_keys(source: ImageSet) -> Int[Tensor, "n"]:
    """A number for each image, by which it is recognised in another split."""

    def keys(indices: range) -> list[int]:
        digests = (hashlib.blake2b(source.identity(index).encode(), digest_size=8).digest() for index in indices)
        return [int.from_bytes(digest, "big", signed=True) for digest in digests]

    parts = [range(first, min(first + 64, len(source))) for first in range(0, len(source), 64)]
    with ThreadPoolExecutor(min(num_processors(), 8)) as pool:  # files are read in part
        return torch.tensor([key for found in pool.map(keys, parts) for key in found], dtype=torch.long)


def require_unseen(checkpoint: Path, source: ImageSet, split: str) -> None:
    """Refuse to call images held out that a checkpoint was trained on or chosen by.

    Raises:
        InputError: If there are any.
    """
    seen = read_checkpoint(checkpoint)["sam_train"].get("images")
    if seen is None:
        raise InputError(f"checkpoint={checkpoint}: made by an earlier version, which cannot say what it has seen")
    before = {"test": ("train", "val"), "val": ("train",), "train": ()}[split]
    for name in before:
        if count := int(torch.isin(image_keys(source), seen[name]).sum()):
            remedy = "Leave data settings as in training (data.root alone may change), or give images it has not seen."
            if name == "val":
                remedy += " evaluation.split=val scores validation images as what they are."
            raise InputError(
                f"evaluation.split={split}: {count} of {len(source)} images were in the {name} split that {checkpoint} "
                f"was trained with. {remedy}"
            )


def known_images(splits: Mapping[Split, ImageSet]) -> dict[str, Int[Tensor, "n"]]:
    """The :func:`image_keys` of what a run is trained on and chosen by.

    Raises:
        InputError: If an image is in two splits; but validation images may stand in for a missing test as a whole.
    """
    apart: dict[Split, ImageSet] = {
        name: source for name, source in splits.items() if name != "test" or source is not splits.get("val")
    }
    keys: dict[Split, Tensor] = {name: image_keys(source) for name, source in apart.items()}
    for one, other in combinations(keys, 2):
        if len(shared := torch.isin(keys[one], keys[other]).nonzero()):
            name = splits[one].ids[int(shared[0])]
            raise InputError(
                f"data: {len(shared)} of {len(keys[one])} {one} images are {other} images, too, such as {name}; leave "
                "each in one split, or scores tell nothing"
            )
    return {name: keys[name] for name in ("train", "val")}


def record(config: DictConfig, base: str, images: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a checkpoint says of itself: plain values, enough to build its model again and to know its images.

    ``base`` is the base model's :func:`fingerprint`, ``images`` its :func:`known_images`, which only the first process,
    which writes checkpoints, needs.
    """
    return {
        "images": dict(images),
        "config": OmegaConf.to_container(config, resolve=True),
        "base": base,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
    }


def trained_config(checkpoint: Path) -> DictConfig:
    """The configuration a checkpoint was trained with.

    Raises:
        InputError: If the file is not a checkpoint of a run, or asks for anything but this package's own parts. Its
            data are not looked at: before they are built, :func:`require_harmless` is to be asked.
    """
    config = read_checkpoint(checkpoint)["sam_train"]["config"]
    require_harmless(config["loader"], checkpoint)
    require_harmless(config["tuning"], checkpoint)
    return DictConfig(config)


def require_harmless(part: Any, checkpoint: Path) -> None:
    """Refuse to build a part of a checkpoint's configuration that names code of a stranger's choice.

    Raises:
        InputError: If it names any class but :data:`SAFE_TARGETS`, or refers to other parts, which were not looked at.
    """
    for key, value in _values(part):
        is_reference = isinstance(value, str) and "${" in value
        if is_reference or (key == "_target_" and value not in SAFE_TARGETS):
            raise InputError(
                f"checkpoint={checkpoint}: it asks for {value}, which is not of this package and might do anything. If "
                "it is a class of your own for data, name it in a configuration (--config-dir=... data=...)"
            )


def _values(node: Any) -> Iterator[tuple[Any, Any]]:
    """Everything that is no container in nested mappings and lists, with its key."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield from _values(value)
        else:
            yield key, value


def read_checkpoint(checkpoint: Path) -> Mapping[str, Any]:
    """All that a run saved.

    Raises:
        InputError: If the file is missing, damaged or no checkpoint of a run.
    """
    if not checkpoint.is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; best.ckpt and last.ckpt are in a run's folder")
    content = read_file(checkpoint)
    if "sam_train" not in content:
        raise InputError(f"checkpoint={checkpoint}: not a checkpoint of sam-train; weights go to model.weights=...")
    return content


def load_pair(checkpoint: Path, config: DictConfig) -> tuple[ImageModel, ImageModel]:
    """The untuned and the tuned model of a checkpoint.

    Raises:
        InputError: If the base model's weights are not those it was trained from.
    """
    content = read_checkpoint(checkpoint)
    untuned, tuned = base_model(config), tuned_model(config)
    _require_same_base(content["sam_train"], untuned, str(checkpoint))
    state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    if lost := sorted(trained - state.keys()) or sorted(state.keys() - tuned.state_dict().keys()):
        raise InputError(
            f"checkpoint={checkpoint} is damaged: {lost[0]} and {len(lost) - 1} others do not belong or lack"
        )
    tuned.load_state_dict({**tuned.state_dict(), **state})
    return untuned, tuned


def _require_same_base(record: dict[str, Any], base: nn.Module, path: str) -> None:
    """Refuse a base model that a checkpoint was not trained from.

    Random weights are not compared: other machines draw others from the same seed, and the checkpoint holds all.

    Raises:
        InputError: If the weights differ.
    """
    if record["config"]["model"]["weights"] != "random" and record["base"] != fingerprint(base):
        config = record["config"]["model"]
        raise InputError(
            f"{path} was trained from {config['preset']} with weights={config['weights']}, which are not the weights "
            "given now. Name the original file: weights=..."
        )
