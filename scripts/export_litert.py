# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["sam-train", "litert-torch==0.10.0", "torch==2.14.1"]
#
# [tool.uv]
# override-dependencies = ["typing-extensions>=4.14"] # litert-torch's own bound is below what wandb needs
#
# [tool.uv.sources]
# sam-train = { path = "..", editable = true }
# ///
"""Write a tuned model for LiteRT (TensorFlow Lite), run it there, and compare its masks with the model's own.

uv run --script scripts/export_litert.py runs/polyps polyp_litert

In an environment of its own, which uv makes: litert-torch 0.10 needs another version of PyTorch than this package.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.reading import SHIPPED
from sam_train.export.agreement import FAULT
from sam_train.export.graphs import Graph, Layout, labeling_layout
from sam_train.export.transformersjs import transformers_layout
from sam_train.models import ImageModel, build_model
from sam_train.models.sam.sam import Sam
from sam_train.runs.run import Run
from sam_train.structures import PointLabel
from sam_train.tuning.lora import merged

NUM_POINTS = 4
"""Points of an object, a number that is fixed in the file; those that are not needed have the label -1."""

_OBJECTS, _POINTS = ("num_labels", "point_batch_size"), ("num_points", "num_points_per_image")


def main(source: str, folder: Path) -> None:
    """Write ``encoder.tflite`` and ``decoder.tflite``, of one image and one object at a time."""
    import litert_torch  # pyright: ignore[reportMissingImports]

    model, files = _model(source), {}
    layout = _layout(model)
    folder.mkdir(parents=True, exist_ok=True)
    for graph in (layout.encoder, layout.decoder):
        files[graph.file] = folder / f"{graph.file}.tflite"
        litert_torch.convert(graph.module.eval(), tuple(_fixed(graph, {}))).export(str(files[graph.file]))
        print(f"{files[graph.file]}: {files[graph.file].stat().st_size / 1e6:.1f} MB", flush=True)
    agreement = layout.agreement(model, lambda graph, given: _run(files[graph.file], graph, given))
    agreement.require(f"{folder}: run in the LiteRT interpreter", FAULT)
    print(f"run in the LiteRT interpreter: IoU {agreement.iou:.4f}, logits differ by up to {agreement.difference:.2g}")


def _model(source: str) -> ImageModel:
    if source not in SHIPPED:
        return merged(Run.load(source).tuned())
    model = build_model(source)
    load_checkpoint(model, source)
    return model.eval()


def _layout(model: ImageModel) -> Layout:
    """Return that of ``format=onnx`` for SAM 2, and of ``format=torch`` for SAM.

    SAM's other decoder chooses a mask by the number of its points, and that of SAM 2 by the number of its boxes.
    """
    return transformers_layout(model) if isinstance(model, Sam) else labeling_layout(model)


def _fixed(graph: Graph, given: Mapping[str, Tensor], index: int = 0) -> list[Tensor]:
    """Return the inputs of the first image and of one object with all of its points."""
    inputs = []
    for name, (example, axes) in graph.inputs.items():
        value = given.get(name, example)
        for axis, length in axes.items():
            if length in _POINTS:
                filling = PointLabel.EMPTY.value if name.endswith("labels") else 0
                more = [0, 0] * (value.ndim - axis - 1) + [0, NUM_POINTS - value.shape[axis]]
                value = F.pad(value, more, value=filling)
            else:
                value = value.narrow(axis, index if length in _OBJECTS else 0, 1)
        inputs.append((value if value.is_floating_point() else value.int()).contiguous())  # LiteRT takes no more bits
    return inputs


def _run(file: Path, graph: Graph, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    of_objects = [
        (axis, given[name].shape[axis])
        for name, (_, axes) in graph.inputs.items()
        for axis, length in axes.items()
        if length in _OBJECTS
    ]
    axis, num_objects = of_objects[0] if of_objects else (0, 1)
    found = []
    for index in range(num_objects):
        inputs = _fixed(graph, given, index)
        outputs = runner(**{f"args_{place}": value.numpy() for place, value in enumerate(inputs)})
        found.append([torch.from_numpy(outputs[f"output_{place}"]) for place in range(len(graph.outputs))])
    return {name: torch.cat(values, axis) for name, values in zip(graph.outputs, zip(*found, strict=True), strict=True)}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
