"""An image encoder, or as much of it as does not train, runs once an image: what it says comes from a cache."""

from __future__ import annotations

import hashlib
from itertools import takewhile
from pathlib import Path
from typing import cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from sam_train.data.cache.embedding_cache import Dtype, EmbeddingCache
from sam_train.data.cache.filling import fill
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.share import Share
from sam_train.errors import InputError
from sam_train.inference.interaction import encode_prefix
from sam_train.models.promptable import PromptableModel
from sam_train.structures import Batch, EncoderState, ImageFeatures
from sam_train.tasks.task import Task

_FORMAT = 3  # of entries; raised where the same encoder would give others


class FeatureCache(Callback):
    """Fills an embedding cache before training, and has training and validation read from it.

    With an image encoder that does not train it keeps features; with one of which only the last blocks do, what these
    start from.

    Training images then have a fixed number of views: the first is the image as it is, the others are augmented. Their
    objects and prompts are drawn anew each epoch as ever.

    Args:
        folder: Kept from run to run and shared by all.
        views: Of each training image, shown in turn, one an epoch.
        dtype: That features are kept in.
    """

    def __init__(self, folder: str, views: int = 1, dtype: Dtype = "bfloat16") -> None:
        self.folder = Path(folder).expanduser()
        self.views = views
        self.dtype: Dtype = dtype

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compute what is missing, every device its share.

        Raises:
            InputError: If the image encoder trains from its first block on, or the disk cannot take it.
        """
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, SegmentationData)
        model = cast(Task, pl_module).model
        if data.cache is not None:  # validated before training: filled already
            return
        require_frozen_prefix(model)
        key = encoder_key(model, str(trainer.precision))
        data.cache = EmbeddingCache(self.folder, key, self.dtype, self.views)
        device = trainer.strategy.root_device
        trainer.precision_plugin.convert_module(pl_module.to(device))

        @torch.no_grad()
        def encode_batch(batch: Batch) -> ImageFeatures | EncoderState:
            with trainer.precision_plugin.forward_context():
                return encode_prefix(model, trainer.precision_plugin.convert_input(batch.to(device)))

        fill(data.cache, data.views(), encode_batch, data.num_encoded, data.num_workers, Share.own())


def require_frozen_prefix(model: PromptableModel) -> None:
    """Refuse to keep what changes.

    Raises:
        InputError: If the image encoder trains from its first block on.
    """
    if model.num_frozen_steps() == 0:
        raise InputError(
            "the cache keeps what does not change of each image, but this run trains the image encoder from its "
            "first block on; add tuning=frozen or tuning.last_blocks=4, or leave out cache=on"
        )


def encoder_key(model: PromptableModel, precision: str) -> str:
    """A hash of all that comes into an entry beside the image: weights, how the encoder is built, preprocessing.

    Args:
        model: The model.
        precision: That it computes in, as Lightning names it.
    """
    num_steps = model.num_frozen_steps()
    modules, tensors = _kept_parts(model, num_steps)
    digest = hashlib.blake2b(f"{_FORMAT} {precision} {model.preprocessing} {num_steps}".encode(), digest_size=16)
    for name, module in modules.items():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, (int, float, str, tuple))}
        plain.pop("training")
        digest.update(f"{name} {type(module).__name__} {sorted(plain.items())}".encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _kept_parts(model: PromptableModel, num_steps: int | None) -> tuple[dict[str, nn.Module], list[Tensor]]:
    """The image encoder's modules that an entry comes through, and all weights and statistics in it."""
    modules: dict[str, nn.Module] = dict(model.image_encoder.named_modules())
    if num_steps is None:
        return modules, [*model.encoding_parameters(), *model.image_encoder.buffers()]
    later = {id(module) for step in model.image_encoder.steps[num_steps:] for module in step.modules()}
    # Modules are held in the order in which they run.
    before = dict(takewhile(lambda item: id(item[1]) not in later, modules.items()))
    own = [[*module.parameters(recurse=False), *module.buffers(recurse=False)] for module in before.values()]
    return before, [tensor for tensors in own for tensor in tensors]
