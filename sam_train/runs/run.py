"""A run that has trained: its models, untuned and tuned, and what it knows of itself."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.reading import read_file
from sam_train.data.sources.base import DataSource
from sam_train.errors import InputError
from sam_train.models import ImageModel, build_model
from sam_train.models.center_head import CenterHead
from sam_train.models.sam2.sam2 import Sam2
from sam_train.runs.record import VERSION, rebuild, with_new_names
from sam_train.runs.settings import ModelChoice
from sam_train.tasks.center_training import new_head
from sam_train.tuning.surgery import Tuning

if TYPE_CHECKING:
    from sam_train.data.loading.datamodule import SegmentationData  # with Lightning, which prediction does without

_HEAD = "prompter.head."  # how the names of the head's weights begin in a checkpoint


class Run:
    """A fine-tuned model beside the one it came from.

    Attributes:
        checkpoint: The file that the tuned model is read from: the best, or the last where none was kept as best.
        record: What the checkpoint says of itself, plain values.
        data: The loaders it was trained with; None for a run that was loaded.
        device: Where it was trained, or else the first GPU or the CPU.
    """

    def __init__(
        self,
        checkpoint: Path,
        record: Mapping[str, Any],
        base: ImageModel | None = None,
        data: SegmentationData | None = None,
        weights: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.checkpoint = checkpoint
        self.record = record
        self.data = data
        self._base = base
        self._weights = weights

    @classmethod
    def load(cls, path: str | Path, weights: str | None = None) -> Run:
        """Load a run from its folder or from one of its checkpoints.

        Nothing in the file is run; models are read when they are asked for.

        Args:
            path: The folder (its ``best.ckpt``, or else ``last.ckpt``), or a .ckpt file.
            weights: Where the base model's weights are now, if they have moved.

        Raises:
            InputError: If there is no checkpoint of a run.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            found = [path / name for name in ("best.ckpt", "last.ckpt") if (path / name).is_file()]
            if not found:
                raise InputError(f"checkpoint={path}: neither best.ckpt nor last.ckpt in it; name the folder of a run")
            path = found[0]
        return cls(path, read_record(path), weights=weights)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.checkpoint.parent

    @property
    def model(self) -> ModelChoice:
        """Which model was tuned."""
        choice = rebuild(self.record["config"]["model"], ModelChoice, f"checkpoint={self.checkpoint}")
        return choice if self._weights is None else ModelChoice(choice.preset, self._weights, choice.image_size)

    def source(self, changes: Mapping[str, Any] | None = None) -> DataSource:
        """Build the data source that the run was trained on, with some settings changed.

        Raises:
            InputError: If it is of a class that is not known here, or does not take the settings.
        """
        description = {**self.record["config"]["data"], **(changes or {})}
        return rebuild(description, DataSource, f"checkpoint={self.checkpoint}")  # pyright: ignore[reportAbstractUsage]

    def untuned(self) -> ImageModel:
        """Return the model as it was before training, in evaluation mode; the same object each time.

        Raises:
            InputError: If the base model's weights are not those that the run began with.
        """
        if self._base is None:
            config = self.record["config"]
            try:
                base = base_model(self.model, config["seed"], trains_memory(config))
            except InputError as error:
                raise InputError(
                    f"checkpoint={self.checkpoint}: the weights that it was trained from cannot be read: {error}. If "
                    "they have moved, name them: weights=..."
                ) from error
            # Random weights are not compared: another machine may draw others, and the checkpoint holds all.
            if self.model.source() != "random" and self.record["base"] != fingerprint(base):
                raise InputError(
                    f"checkpoint={self.checkpoint} was trained from {self.model.preset} with other weights than "
                    f"{self.model.source()}. Name the original file: weights=..."
                )
            self._base = base
        return self._base.eval()

    def tuned(self) -> ImageModel:
        """Return the model as it was trained, in evaluation mode; what training left alone is the untuned model's own.

        Raises:
            InputError: If the base model's weights are not those that the run began with, or the checkpoint is damaged.
        """
        model = tuned_model(self.untuned(), self.record["config"])
        found, state = read_run(self.checkpoint)["state_dict"], {}
        for name, value in found.items():
            if self.categories is None or not name.startswith(_HEAD):
                state[name.removeprefix("model.")] = value
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        if lost := sorted(trained - state.keys()) or sorted(state.keys() - model.state_dict().keys()):
            raise InputError(
                f"checkpoint={self.checkpoint} is damaged: {lost[0]} and {len(lost) - 1} others are missing or unknown"
            )
        model.load_state_dict({**model.state_dict(), **state})
        share_frozen(self.untuned(), model)
        return model.eval()

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Names of what the run's head finds without a prompt; None if it has no head."""
        return tuple(self.record["categories"]) if self.record["config"].get("prompter") else None

    def head(self) -> CenterHead | None:
        """Return the head that finds objects without a prompt, in evaluation mode; None if the run trained none.

        Raises:
            InputError: If the checkpoint is damaged.
        """
        if self.categories is None:
            return None
        head = new_head(self.untuned(), self.categories, seed=0)
        found = read_run(self.checkpoint)["state_dict"]
        state = {name.removeprefix(_HEAD): value for name, value in found.items() if name.startswith(_HEAD)}
        shapes = {name: value.shape for name, value in state.items()}
        if shapes != {name: value.shape for name, value in head.state_dict().items()}:
            raise InputError(
                f"checkpoint={self.checkpoint} is damaged: its head that finds objects is not one of "
                f"{len(self.categories)} categories on {self.model.preset}"
            )
        head.load_state_dict(state)
        return head.eval()

    def models(self) -> dict[str, ImageModel]:
        """Return the ``untuned`` and the ``tuned`` model on the run's device; they share what is the same in both."""
        untuned, tuned = self.untuned().to(self.device), self.tuned().to(self.device)
        share_frozen(untuned, tuned)
        return {"untuned": untuned, "tuned": tuned}


def read_run(checkpoint: Path) -> Mapping[str, Any]:
    """Read all that a run saved.

    Raises:
        InputError: If the file is missing, damaged or no checkpoint of a run.
    """
    if not checkpoint.is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; best.ckpt and last.ckpt are in a run's folder")
    content = read_file(checkpoint)
    if "sam_train" not in content:
        raise InputError(f"checkpoint={checkpoint}: not a checkpoint of sam-train; weights go to model.weights=...")
    return content


def read_record(checkpoint: Path) -> Mapping[str, Any]:
    """Read what a run says of itself.

    Raises:
        InputError: If the file is missing, damaged, no checkpoint of a run, or made by an earlier version.
    """
    record = read_run(checkpoint)["sam_train"]
    if not isinstance(record, Mapping) or record.get("version") != VERSION:
        raise InputError(
            f"checkpoint={checkpoint}: made by another version of sam-train, whose record this one does not know; "
            "evaluate and resume it with the version it was trained with"
        )
    return with_new_names(record)


def base_model(choice: ModelChoice, seed: int, with_memory: bool = False) -> ImageModel:
    """Build the model before fine-tuning: the preset's weights, or random ones that depend on the seed alone.

    Args:
        choice: Which model.
        seed: Of random weights.
        with_memory: Give the model a fresh memory where its weights have none.

    Raises:
        InputError: If no weights are named: adapting noise would look like a gain.
    """
    source = choice.source()
    if source is None:
        raise InputError(
            f"model.weights: {choice.preset} comes without weights; the table of models in the documentation links the "
            "official ones. Then model.weights=<file>, or model.weights=random to train from nothing"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(choice.preset, choice.image_size)
    if source != "random":
        load_checkpoint(model, source)
    if isinstance(model, Sam2) and with_memory and not model.has_memory():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.initialize_memory()
    return model


def trains_memory(config: Mapping[str, Any]) -> bool:
    """Tell whether a run with this configuration trains the memory of its model."""
    return config["tuning"].get("memory", "frozen") != "frozen"


def tuned_model(base: ImageModel, config: Mapping[str, Any]) -> ImageModel:
    """Copy a base model and set what trains: adapters are in place, frozen parts in eval mode."""
    model = copy.deepcopy(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])  # adapters start from random numbers
        rebuild(config["tuning"], Tuning, "this run").apply(model)
    share_frozen(base, model)
    return model


def share_frozen(base: nn.Module, model: nn.Module) -> None:
    """Have what does not train in a tuned model be the base model's own memory."""
    own = dict(base.named_parameters())
    for name, parameter in model.named_parameters():
        source = own.get(name.replace(".base_layer.", "."))
        if source is not None and not parameter.requires_grad and parameter.device == source.device:
            parameter.data = source.data


def fingerprint(model: nn.Module) -> str:
    """Hash all weights, by which a checkpoint knows the base it belongs to."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
