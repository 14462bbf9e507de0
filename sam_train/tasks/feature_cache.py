"""An image encoder that does not train runs once an image: its features come from a cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from sam_train.data.datamodule import SegmentationData
from sam_train.data.embedding_cache import Dtype, EmbeddingCache
from sam_train.inference.interaction import encode
from sam_train.models.promptable import PromptableModel
from sam_train.structures import Batch, ImageFeatures, InputError
from sam_train.tasks.image import ImageTask

_FORMAT = 1  # of entries; raised where the same encoder would give others


class FeatureCache(Callback):
    """Fills an embedding cache before training, and has training and validation read from it.

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
            InputError: If the image encoder trains, or the disk cannot take it.
        """
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(pl_module, ImageTask)
        assert isinstance(data, SegmentationData)
        if data.cache is not None:  # validated before training: filled already
            return
        require_frozen_encoder(pl_module.model)
        key = encoder_key(pl_module.model, str(trainer.precision))
        data.cache = EmbeddingCache(self.folder, key, self.dtype, self.views)
        device = trainer.strategy.root_device
        trainer.precision_plugin.convert_module(pl_module.to(device))

        @torch.no_grad()
        def encode_batch(batch: Batch) -> ImageFeatures:
            with trainer.precision_plugin.forward_context():
                return encode(pl_module.model, trainer.precision_plugin.convert_input(batch.to(device)))

        data.fill_cache(encode_batch)


def require_frozen_encoder(model: PromptableModel) -> None:
    """Refuse to keep features that change.

    Raises:
        InputError: If anything trains that encodes images.
    """
    if any(parameter.requires_grad for parameter in model.encoding_parameters()):
        raise InputError(
            "the cache keeps what the image encoder says of each image, but this run trains the image encoder; add "
            "tuning=frozen, or leave out cache=on"
        )


def encoder_key(model: PromptableModel, precision: str) -> str:
    """A hash of all that features come from beside the image: weights, how the encoder is built, preprocessing.

    Args:
        model: The model.
        precision: That it computes in, as Lightning names it.
    """
    digest = hashlib.blake2b(f"{_FORMAT} {precision} {model.preprocessing}".encode(), digest_size=16)
    for name, module in model.image_encoder.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, (int, float, str, tuple))}
        plain.pop("training")
        digest.update(f"{name} {type(module).__name__} {sorted(plain.items())}".encode())
    for tensor in (*model.encoding_parameters(), *model.image_encoder.buffers()):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
