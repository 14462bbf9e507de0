"""What trains: surgery on a model whose weights are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from torch import nn

from sam_train.errors import InputError
from sam_train.models.encoder_block import EncoderBlock, encoder_blocks
from sam_train.models.promptable import PromptableModel
from sam_train.tuning.lora import adapted_layers, add_lora

Mode = Literal["frozen", "lora", "full"]


@dataclass(frozen=True)
class Tuning:
    """How much of a model trains. The mask decoder always does.

    Attributes:
        encoder: The image encoder stays as it is (``frozen``), learns low-rank adapters (``lora``) or trains ``full``.
        last_blocks: Only this many blocks of the image encoder and what follows them train; what is before them costs
            its forward pass and keeps nothing for a backward one.
        checkpoint_activations: Compute each block of the image encoder once more in the backward pass instead of
            keeping what happened inside: the same gradients for less memory and more time.
        prompt_encoder: Whether the prompt encoder trains too.
        targets: Of LoRA: ``attention``, ``linear``, or a regular expression on module names of the image encoder.
        rank: Of LoRA.
        alpha: Of LoRA: adapters are scaled by alpha / rank. None for twice the rank.
        dropout: Of LoRA.
    """

    encoder: Mode = "frozen"
    last_blocks: int | None = None
    checkpoint_activations: bool = False
    prompt_encoder: bool = True
    targets: str = "attention"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.encoder not in ("frozen", "lora", "full"):
            raise InputError(f"tuning.encoder={self.encoder!r}, possible are frozen, lora and full")
        if self.last_blocks is not None and self.encoder == "frozen":
            raise InputError(
                f"tuning.last_blocks={self.last_blocks}: with a frozen encoder none trains; try tuning=lora"
            )
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise InputError(f"tuning.rank={self.rank}, dropout={self.dropout}: at least 1, and from 0 to below 1")

    def apply(self, model: PromptableModel) -> None:
        """Freeze and adapt in place. Frozen parts are put in eval mode; see :func:`frozen_parts`.

        What encodes the image counts as encoder wherever it lives: SAM 2 keeps two convolutions in its decoder.

        Raises:
            InputError: If LoRA's targets match nothing, or the encoder has fewer blocks than are to train.
        """
        tuned = self._tuned_part(model.image_encoder)
        last = {id(parameter) for module in tuned for parameter in module.parameters(recurse=False)}
        prefix = {id(parameter) for parameter in model.image_encoder.parameters()} - last
        encoding = {id(parameter) for parameter in model.encoding_parameters()}
        model.requires_grad_(self.encoder == "full")  # also of what is in no part: SAM 2's no-memory embedding
        model.parts.prompt_encoder.requires_grad_(self.prompt_encoder)
        model.parts.mask_decoder.requires_grad_(True)
        unused = dict(model.unused_shapes)
        for name, parameter in model.named_parameters():
            if id(parameter) in encoding:
                parameter.requires_grad_(self.encoder == "full" and id(parameter) not in prefix)
            if name in unused:
                parameter.requires_grad_(False)
        if self.encoder == "lora":
            alpha = 2.0 * self.rank if self.alpha is None else self.alpha
            add_lora(model.image_encoder, tuned, self.targets, self.rank, alpha, self.dropout)
        for block in tuned:
            if isinstance(block, EncoderBlock):
                block.checkpoint_activations = self.checkpoint_activations
        for module in frozen_parts(model):
            module.eval()

    def _tuned_part(self, encoder: nn.Module) -> list[nn.Module]:
        """The encoder's modules from its first block that trains to its end; all of them without ``last_blocks``."""
        modules, blocks = list(encoder.modules()), encoder_blocks(encoder)
        if self.last_blocks is None:
            return modules
        if not 1 <= self.last_blocks <= len(blocks):
            raise InputError(f"tuning.last_blocks={self.last_blocks}: the image encoder has {len(blocks)} blocks")
        return modules[modules.index(blocks[-self.last_blocks]) :]


def frozen_parts(model: nn.Module) -> list[nn.Module]:
    """The largest modules in which nothing trains: they belong in eval mode at all times.

    With adapters in an encoder these are the layers between them, so that batch norms keep their statistics. A module
    without any state, such as a dropout, belongs to what surrounds it.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return [model] if model.state_dict() else []
    return [part for child in model.children() for part in frozen_parts(child)]


def trained_table(model: PromptableModel) -> Table:
    """What trains and how much of it, part by part, with the layers that adapters were put on; for a terminal."""
    unused_shapes = dict(model.unused_shapes)
    idle = {id(value) for name, value in model.named_parameters() if name in unused_shapes and not value.requires_grad}
    num_unused = sum(math.prod(shape) for shape in unused_shapes.values())
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
    """Layers of the same name in different blocks."""
    kinds: dict[str, list[nn.Module]] = {}
    for name, layer in layers.items():
        kinds.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(layer)
    return kinds
