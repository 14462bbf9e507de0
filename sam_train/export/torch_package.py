"""Programs of PyTorch that need none of this package: ``torch.export`` and AOTInductor."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sam_train.errors import InputError
from sam_train.export.agreement import FAULT, Agreement
from sam_train.export.graphs import Graph
from sam_train.export.transformersjs import transformers_layout
from sam_train.files import written_whole
from sam_train.models import ImageModel


def export_torch(model: ImageModel, folder: Path, compiled: bool = False) -> Agreement:
    """Write ``encoder.pt2`` and ``decoder.pt2``, read them again, and compare what they find with what the model finds.

    They take and return what ``transformers`` does, in the order of :func:`transformers_layout`; the number of images,
    objects and points is free.

    Args:
        model: Adapters merged, on the CPU.
        folder: Where the files go.
        compiled: Write packages of machine code, which AOTInductor makes, in place of programs.

    Raises:
        InputError: If there is no C++ compiler to make packages with, or the masks are not those of the model.
    """
    if compiled:
        _require_compiler()
    layout = transformers_layout(model)
    for graph in (layout.encoder, layout.decoder):
        with written_whole(_file(folder, graph)) as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            program = graph.program()
            if compiled:
                path.unlink()
                torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            else:
                torch.export.save(program, path)
    agreement = layout.agreement(model, lambda graph, given: _run(_file(folder, graph), graph, given, compiled))
    agreement.require(f"path={folder}", FAULT)
    return agreement


def _file(folder: Path, graph: Graph) -> Path:
    return folder / f"{graph.file}.pt2"


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        found = shutil.which(get_cpp_compiler())
    except Exception:  # torch's own, which differs from version to version
        found = None
    if found is None:
        raise InputError(
            "format=aoti needs a C++ compiler, and none was found: install g++ or clang, or name one in the variable "
            "CXX of the environment; format=torch needs none"
        )


def _run(file: Path, graph: Graph, given: Mapping[str, Tensor], compiled: bool) -> dict[str, Tensor]:
    program = torch._inductor.aoti_load_package(str(file)) if compiled else torch.export.load(file).module()
    found = program(*(given[name] for name in graph.inputs))
    return dict(zip(graph.outputs, found, strict=True))
