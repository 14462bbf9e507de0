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

uv run scripts/export_litert.py runs/polyps polyp_litert

In an environment of its own, which uv makes: litert-torch 0.10 needs another version of PyTorch than this package.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sam_train.checkpoints import load_checkpoint
from sam_train.checkpoints.reading import SHIPPED
from sam_train.export.graphs import Graph, labeling_layout
from sam_train.models import ImageModel, build_model
from sam_train.runs.run import Run
from sam_train.structures import PointLabel
from sam_train.tuning.lora import merged

NUM_POINTS = 4
"""Points of an object, a number that is fixed in the file; those that are not needed have the label -1."""


def main(source: str, folder: Path) -> None:
    """Write ``encoder.tflite`` and ``decoder.tflite``, of one object at a time, with the inputs of ``format=onnx``."""
    import litert_torch  # pyright: ignore[reportMissingImports]

    model, files = _model(source), {}
    layout = labeling_layout(model)
    folder.mkdir(parents=True, exist_ok=True)
    for graph in (layout.encoder, layout.decoder):
        files[graph.file] = folder / f"{graph.file}.tflite"
        converted = litert_torch.convert(graph.module.eval(), tuple(_fixed(graph, dict.fromkeys(graph.inputs))))
        converted.export(str(files[graph.file]))
        print(f"{files[graph.file]}: {files[graph.file].stat().st_size / 1e6:.1f} MB", flush=True)
    agreement = layout.agreement(model, lambda graph, given: _run(files[graph.file], graph, given))
    agreement.require(f"{folder}: run in the LiteRT interpreter", "this is a fault of the export")
    print(f"run in the LiteRT interpreter: IoU {agreement.iou:.4f}, logits differ by up to {agreement.difference:.2g}")


def _model(source: str) -> ImageModel:
    if source not in SHIPPED:
        return merged(Run.load(source).tuned())
    model = build_model(source)
    load_checkpoint(model, source)
    return model.eval()


def _fixed(graph: Graph, given: Mapping[str, Tensor | None]) -> list[Tensor]:
    """Return the inputs of one object with all of its points, or examples of their shapes."""
    inputs = []
    for name, (example, _) in graph.inputs.items():
        value = given[name]
        if name == "point_coords":
            value = torch.zeros(1, NUM_POINTS, 2) if value is None else _filled(value, 0)
        elif name == "point_labels":
            value = torch.ones(1, NUM_POINTS) if value is None else _filled(value, PointLabel.EMPTY.value)
        elif name == "input_image":  # its longest side is the model's; here both are
            value = torch.rand(example.shape[0], example.shape[0], 3) * 255 if value is None else value
        inputs.append(example[:1] if value is None else value)
    return [value.contiguous() for value in inputs]


def _filled(points: Tensor, value: float) -> Tensor:
    more = points.new_full((1, NUM_POINTS - points.shape[1], *points.shape[2:]), value)
    return torch.cat([points, more], dim=1)


def _run(file: Path, graph: Graph, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    num_objects = len(given["point_coords"]) if graph.file == "decoder" else 1
    of_objects = {name: given[name] for name in _OF_OBJECTS if len(given[name]) > 1}
    found = []
    for index in range(num_objects):
        own = {name: value[index : index + 1] for name, value in of_objects.items()}
        inputs = _fixed(graph, {**given, **own})
        outputs = runner(**{f"args_{place}": value.numpy() for place, value in enumerate(inputs)})
        found.append([torch.from_numpy(outputs[f"output_{place}"]) for place in range(len(graph.outputs))])
    return {name: torch.cat(values) for name, values in zip(graph.outputs, zip(*found, strict=True), strict=True)}


_OF_OBJECTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
