"""Adapters and whatever else LoRA tuning trained, in the format that PEFT puts on a model of ``transformers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sam_train.checkpoints.huggingface import huggingface_names, layout_of, to_huggingface
from sam_train.checkpoints.writing import json_writer, write_files
from sam_train.errors import InputError
from sam_train.models import ImageModel


@torch.no_grad()
def save_adapters(model: ImageModel, path: str | Path) -> None:
    """Save what LoRA tuning has changed and nothing else: the adapters, and the parts that trained as a whole.

    ``peft.PeftModel.from_pretrained(base, path)`` opens the folder, where ``base`` is the ``transformers.SamModel`` or
    ``Sam2Model`` of the weights that were tuned.

    Args:
        model: A model with adapters in its image encoder.
        path: The folder; its files are replaced only when the new ones are complete.

    Raises:
        InputError: If the model has no adapters, ``transformers`` has no such model, or the folder holds a whole model,
            on which ``transformers`` would put the adapters unasked.
    """
    path = Path(path).expanduser()
    if path.is_file():
        raise InputError(f"{path} is a file, format='peft' writes a folder")
    if (path / "config.json").exists():
        raise InputError(
            f"{path} holds a whole model, on which transformers would put the adapters; name another folder"
        )
    layout = layout_of(model)
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    if layout is None or not layers:
        why = "transformers has no such model" if layout is None else "it was not tuned with LoRA"
        raise InputError(f"format='peft': {why}; use format='meta' or 'huggingface' for all of its weights")
    layer: Any = next(iter(layers.values()))
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    adapters = {name.replace(".default.", "."): tensor for name, tensor in state.items() if ".lora_" in name}
    in_encoder = {id(parameter) for parameter in model.encoding_parameters()}
    trained = [name for name, value in model.named_parameters() if value.requires_grad and id(value) not in in_encoder]
    parts = sorted({_top(name) for name in trained})
    wholes = to_huggingface({name: state[name] for name in state if _top(name) in parts}, layout.renames, True)
    modules = [huggingface_names(part, layout.renames)[0] for part in parts]
    tensors = to_huggingface(adapters, layout.renames, False)
    targets = sorted({name.split(".lora_")[0] for name in tensors})
    tensors |= {name: tensor for name, tensor in wholes.items() if _top(name) in modules}
    config = {
        "peft_type": "LORA",
        "r": layer.r["default"],
        "lora_alpha": layer.lora_alpha["default"],
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "modules_to_save": modules,
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    content = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    write_files(
        path,
        {
            "adapter_model.safetensors": lambda file: save_file(content, file, metadata={"format": "pt"}),
            "adapter_config.json": json_writer(config),
        },
    )


def _top(name: str) -> str:
    return name.split(".")[0]
