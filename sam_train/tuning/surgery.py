"""Choosing what trains: surgery on a model whose weights are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from torch import nn

from sam_train.errors import InputError
from sam_train.limits import check_limits
from sam_train.models.encoder_block import EncoderBlock, encoder_blocks
from sam_train.models.promptable import PromptableModel
from sam_train.tuning.lora import adapted_layers, add_lora

Mode = Literal["frozen", "lora", "full"]


@dataclass(frozen=True)
class Tuning:
    """How much of a model trains.

    Attributes:
        encoder: Whether the image encoder stays as it is (``frozen``), learns low-rank adapters (``lora``) or trains as
            a whole (``full``).
        last_blocks: Number of last blocks of the image encoder that train, with the neck after them; earlier blocks
            cost their forward pass and keep nothing for the backward pass. None for all blocks.
        checkpoint_activations: Run each block of the image encoder again in the backward pass instead of keeping its
            activations: the same gradients with less memory, in more time.
        prompt_encoder: Whether the prompt encoder trains, too.
        mask_decoder: Whether the mask decoder trains.
        memory: Whether the memory of a model that follows objects stays as it is (``frozen``), learns low-rank adapters
            in its attention (``lora``) or trains as a whole (``full``). Images do not use it.
        targets: Layers that get LoRA: ``attention``, ``linear``, or a regular expression that whole module names of the
            image encoder match.
        rank: Rank of LoRA.
        alpha: LoRA is scaled by alpha / rank. None for twice the rank.
        dropout: Dropout of LoRA's input.
    """

    encoder: Mode = "frozen"
    last_blocks: int | None = None
    checkpoint_activations: bool = False
    prompt_encoder: bool = True
    mask_decoder: bool = True
    memory: Mode = "frozen"
    targets: str = "attention"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_limits("tuning", vars(self))
        if not self.mask_decoder and not self.prompt_encoder and self.encoder == self.memory == "frozen":
            raise InputError("tuning: nothing trains; leave tuning.mask_decoder=true or set tuning.memory=full")
        if self.last_blocks is not None and self.encoder == "frozen":
            raise InputError(
                f"tuning.last_blocks={self.last_blocks}: no block of a frozen encoder trains; try tuning=lora"
            )

    def apply(self, model: PromptableModel) -> None:
        """Freeze and adapt a model in place, and put frozen parts in eval mode; see :func:`frozen_parts`.

        Layers that encode the image count as encoder wherever they are: SAM 2 keeps two convolutions in its decoder.

        Raises:
            InputError: If LoRA's targets match nothing, the encoder has fewer than ``last_blocks`` blocks, or there is
                no memory to train.
        """
        tuned = self._tuned_part(model.image_encoder)
        last = {id(parameter) for module in tuned for parameter in module.parameters(recurse=False)}
        prefix = {id(parameter) for parameter in model.image_encoder.parameters()} - last
        encoding = {id(parameter) for parameter in model.encoding_parameters()}
        model.requires_grad_(self.encoder == "full")  # also of what is in no part: SAM 2's no-memory embedding
        model.parts.prompt_encoder.requires_grad_(self.prompt_encoder)
        model.parts.mask_decoder.requires_grad_(self.mask_decoder)
        unused = dict(model.unused_shapes)
        for name, parameter in model.named_parameters():
            if id(parameter) in encoding:
                parameter.requires_grad_(self.encoder == "full" and id(parameter) not in prefix)
            if name in unused:
                parameter.requires_grad_(self.memory == "full")
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        if self.encoder == "lora":
            add_lora(model.image_encoder, tuned, self.targets, self.rank, alpha, self.dropout)
        if self.memory != "frozen":
            attention = getattr(model, "memory_attention", None)
            if attention is None:
                raise InputError(f"tuning.memory={self.memory}: this model has no memory; SAM 2 and sam2_nano have one")
            if self.memory == "lora":
                add_lora(attention, list(attention.modules()), "attention", self.rank, alpha, self.dropout)
        for block in tuned:
            if isinstance(block, EncoderBlock):
                block.checkpoint_activations = self.checkpoint_activations
        for module in frozen_parts(model):
            module.eval()

    def _tuned_part(self, encoder: nn.Module) -> list[nn.Module]:
        """Return the encoder's modules from its first trainable block on; all modules without ``last_blocks``."""
        modules, blocks = list(encoder.modules()), encoder_blocks(encoder)
        if self.last_blocks is None:
            return modules
        if self.last_blocks > len(blocks):
            raise InputError(
                f"tuning.last_blocks={self.last_blocks}: the image encoder has {len(blocks)} blocks, so use 1 to "
                f"{len(blocks)}"
            )
        return modules[modules.index(blocks[-self.last_blocks]) :]


def frozen_parts(model: nn.Module) -> list[nn.Module]:
    """Return the largest modules in which nothing trains: they stay in eval mode at all times.

    In an encoder with adapters these are the layers between adapters, so that batch norms keep their statistics. A
    module without any state, such as a dropout, belongs to the module around it.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return [model] if model.state_dict() else []
    return [part for child in model.children() for part in frozen_parts(child)]


def trained_table(model: PromptableModel) -> Table:
    """Return a table of trainable parameters, part by part, with the layers that got adapters; for a terminal."""
    shapes, memory = dict(model.unused_shapes), getattr(model, "memory_attention", None)
    if memory is not None and any(parameter.requires_grad for parameter in memory.parameters()):
        shapes = {}
    idle = {id(parameter) for name, parameter in model.named_parameters() if name in shapes}
    num_unused = sum(math.prod(shape) for shape in shapes.values())
    unused = f"and {num_unused:,} weights that images do not need, kept for the checkpoint" if num_unused else None
    table = Table(title="what trains", caption=unused)
    for column in ("part", "trained", "of", "share"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, part in [*model.named_children(), ("all", model)]:
        total = sum(parameter.numel() for parameter in part.parameters() if id(parameter) not in idle)
        trained = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        if total:
            table.add_row(name, f"{trained:,}", f"{total:,}", f"{trained / total:.1%}")
        for kind, layers in _alike(adapted_layers(part)).items() if part is not model else ():
            adapters = [value for layer in layers for key, value in layer.named_parameters() if "lora_" in key]
            layers_total = sum(parameter.numel() for layer in layers for parameter in layer.parameters())
            added = sum(parameter.numel() for parameter in adapters)
            cells = f"{added:,}", f"{layers_total:,}", f"{added / layers_total:.1%}"
            table.add_row(f"  {len(layers)} x LoRA on {kind}", *cells, style="dim")
    return table


def _alike(layers: Mapping[str, nn.Module]) -> dict[str, list[nn.Module]]:
    """Group layers that have the same name in different blocks."""
    kinds: dict[str, list[nn.Module]] = {}
    for name, layer in layers.items():
        kinds.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(layer)
    return kinds
