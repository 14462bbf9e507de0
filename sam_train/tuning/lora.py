"""Low-rank adapters (Hu et al. 2022) on our modules, through PEFT."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sam_train.errors import InputError

TARGETS = {
    "attention": r"(.*\.)?attn\.(qkv|proj)",
    "linear": r".*",
}
"""Which linear layers of an image encoder get adapters, by name: a regular expression for the whole module name."""


def add_lora(
    encoder: nn.Module, part: Collection[nn.Module], targets: str, rank: int, alpha: float, dropout: float
) -> list[str]:
    """Put adapters beside linear layers of an image encoder, in place; only they train afterwards.

    The adapters start at zero: the model computes what it did before.

    Args:
        encoder: With its weights loaded.
        part: The modules of it that may be adapted.
        targets: A key of :data:`TARGETS`, or a regular expression that whole module names must match.
        rank: Of the adapters.
        alpha: The adapters' output is scaled by alpha / rank.
        dropout: Of the adapters' input, in training.

    Returns:
        The names of the adapted layers.

    Raises:
        InputError: If no linear layer matches, or the expression is none.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import, and only LoRA needs it

    try:
        pattern = re.compile(TARGETS.get(targets, targets))
    except re.error as error:
        raise InputError(f"tuning.targets={targets!r}: no regular expression ({error})") from error
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear) and module in part]
    matched = [name for name in linear if pattern.fullmatch(name)]
    if not matched:
        shapes = sorted({re.sub(r"\d+", "*", name) for name in linear})
        raise InputError(
            f"tuning.targets={targets!r} matches no linear layer of the image encoder, or of its last blocks. "
            f"Layers: {', '.join(shapes)}; "
            f"names for sets of them: {', '.join(TARGETS)}"
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=matched)  # pyright: ignore[reportArgumentType]
    inject_adapter_in_model(config, encoder)
    return matched


@torch.no_grad()
def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict the model would have if its adapters were part of its weights, in the un-adapted names.

    The model itself is left as it is. Without adapters, simply its state dict.
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


def adapted_layers(model: nn.Module) -> Mapping[str, nn.Module]:
    """The layers with adapters, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
