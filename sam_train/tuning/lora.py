"""Low-rank adapters (Hu et al. 2022) on our modules, through PEFT."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.models.sam2.memory_attention import MemoryAttention
from sam_train.models.staged_encoder import StagedEncoder

TARGETS = ("attention", "linear")
"""Sets of an image encoder's linear layers that have a name: those of attention as the encoder declares, and all."""


def add_lora(
    module: StagedEncoder | MemoryAttention,
    part: Collection[nn.Module],
    targets: str,
    rank: int,
    alpha: float,
    dropout: float,
) -> list[str]:
    """Put adapters beside linear layers of a module, in place; only the adapters train afterwards.

    The adapters start at zero: the model computes what it did before.

    Args:
        module: An image encoder or a memory attention, with its weights loaded.
        part: The modules in it that may be adapted.
        targets: One of :data:`TARGETS`, or a regular expression that whole module names must match.
        rank: Rank of the adapters.
        alpha: The adapters' output is scaled by alpha / rank.
        dropout: Dropout of the adapters' input, in training.

    Returns:
        The names of the adapted layers.

    Raises:
        InputError: If no linear layer matches, or the expression is invalid.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and only LoRA needs it

    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    linear = {name: layer for name, layer in linear.items() if layer in part}
    matched = _choose(module, linear, targets)
    if not matched:
        shapes = sorted({re.sub(r"\d+", "*", name) for name in linear})
        raise InputError(
            f"tuning.targets={targets!r} matches no linear layer of the image encoder, or of its last blocks. "
            f"Layers: {', '.join(shapes)}; or give one of {', '.join(TARGETS)}"
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=matched)  # pyright: ignore[reportArgumentType]
    inject_adapter_in_model(config, module)
    return matched


def _choose(module: StagedEncoder | MemoryAttention, linear: Mapping[str, nn.Module], targets: str) -> list[str]:
    """Return the names of the linear layers that ``targets`` means."""
    if targets == "linear":
        return list(linear)
    if targets == "attention":
        attention = {id(layer) for layer in module.attention_layers()}
        return [name for name, layer in linear.items() if id(layer) in attention]
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise InputError(f"tuning.targets={targets!r}: not a regular expression ({error})") from error
    return [name for name in linear if pattern.fullmatch(name)]


@torch.no_grad()
def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict the model would have if its adapters were part of its weights, under the original names.

    The model itself is left as it is. Without adapters this is its state dict.
    """
    state = {}
    adapted = adapted_layers(model)
    for name, value in model.state_dict().items():
        if any(name.startswith(f"{layer}.") and ".lora_" in name for layer in adapted):
            continue
        state[name.replace(".base_layer.", ".")] = value
    for name, layer in adapted.items():
        delta = layer.get_delta_weight("default")  # pyright: ignore[reportCallIssue]
        state[f"{name}.weight"] = state[f"{name}.weight"] + delta.to(state[f"{name}.weight"].dtype)
    return state


def merged(model: ImageModel) -> ImageModel:
    """Return a model without adapters that computes what this one does, on the CPU, in evaluation mode."""
    plain = model.config.build()
    plain.load_state_dict(merged_state_dict(model))
    return plain.eval()


def adapted_layers(model: nn.Module) -> Mapping[str, nn.Module]:
    """Return the layers with adapters, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
