"""Everything that a tuned model can be exported to: written, opened again in its own runtime, and compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sam_train.checkpoints import save_adapters, save_checkpoint
from sam_train.checkpoints.huggingface import layout_of
from sam_train.errors import InputError
from sam_train.export.onnx import export_onnx
from sam_train.export.reloading import Check, check_huggingface, check_meta, check_peft
from sam_train.export.torch_package import export_torch
from sam_train.models import ImageModel
from sam_train.tuning.lora import adapted_layers, merged

FORMATS = ("huggingface", "meta", "peft", "onnx", "transformersjs", "torch", "aoti")


def require_format(format_: str, tuned: ImageModel, preset: str) -> None:
    """Refuse a format that does not exist, or that this model cannot have.

    Raises:
        InputError: If it is so; the formats that the model can have are named.
    """
    refused: dict[str, str] = {}
    if layout_of(tuned) is None:
        refused = dict.fromkeys(("huggingface", "peft"), f"transformers has no {preset}")
    elif not adapted_layers(tuned):
        refused = {"peft": "the run tuned without LoRA, so that there are no adapters"}
    if format_ in FORMATS and format_ not in refused:
        return
    why = f"{refused[format_]}; this model" if format_ in refused else "no such format; this model"
    can = ", ".join(name for name in FORMATS if name not in refused)
    raise InputError(f"format={format_}: {why} can be exported as {can}")


def require_writable(path: Path) -> None:
    """Make the folder that a file or folder goes into, and try to write there, before anything is computed.

    Raises:
        InputError: If that cannot be done.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path if path.is_dir() else path.parent):
            pass
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise InputError(f"path={path}: cannot be written ({found}); name another folder") from error


def write(base: ImageModel, tuned: ImageModel, path: Path, format_: str, precision: str = "fp32") -> list[Check]:
    """Write a model in one of :data:`FORMATS` and open it again.

    Args:
        base: The untuned model.
        tuned: The tuned one, with its adapters.
        path: The file (``meta``) or folder.
        format_: Which.
        precision: Of ``onnx`` and ``transformersjs``.

    Raises:
        InputError: If a library is missing, the model has no such format, or the masks are not those of the model.
    """
    plain = merged(tuned)
    if format_ == "peft":
        save_adapters(tuned, path)
        return check_peft(base, plain, path)
    if format_ in ("onnx", "transformersjs"):
        return [Check("run in onnxruntime", export_onnx(plain, path, precision, format_))]
    if format_ in ("torch", "aoti"):
        agreement = export_torch(plain, path, compiled=format_ == "aoti")
        runtime = "torch.export" if format_ == "torch" else "AOTInductor"
        return [Check(f"loaded again and run with {runtime}", agreement)]
    assert format_ in ("huggingface", "meta")
    save_checkpoint(plain, path, "huggingface" if format_ == "huggingface" else "meta")
    return check_huggingface(plain, path) if format_ == "huggingface" else check_meta(plain, path)
