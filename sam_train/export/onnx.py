"""ONNX: an image encoder and a decoder of prompts as two files, run in onnxruntime before they are called done."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sam_train.checkpoints.writing import json_writer, write_files
from sam_train.errors import InputError
from sam_train.export.agreement import MOST_DIFFERENT, Agreement
from sam_train.export.graphs import Graph, labeling_layout
from sam_train.export.transformersjs import FILES, SUFFIXES, transformers_layout, transformersjs_files
from sam_train.files import written_whole
from sam_train.models import ImageModel

if TYPE_CHECKING:
    import onnx

OPSET = 18  # from which on Resize takes the sizes of some axes
PRECISIONS: Mapping[str, float] = {"fp32": 0.999, "fp16": 0.98, "int8": 0.8}
"""Numbers of the weights, and the mean IoU that the masks must have with ours."""

LAYOUTS = ("onnx", "transformersjs")


def export_onnx(model: ImageModel, folder: Path, precision: str = "fp32", layout: str = "onnx") -> Agreement:
    """Write an encoder and a decoder and compare what they find with what the model finds.

    Args:
        model: Adapters merged, on the CPU.
        folder: Where the files go.
        precision: One of :data:`PRECISIONS`. Inputs and outputs stay 32-bit floating point.
        layout: One of :data:`LAYOUTS`: ``encoder.onnx`` and ``decoder.onnx`` for labeling tools, or what
            transformers.js opens.

    Raises:
        InputError: If a library is not installed, or the masks are not those of the model.
    """
    _require_libraries(layout)
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision}: expected one of {', '.join(PRECISIONS)}")
    for_js = layout == "transformersjs"
    parts = transformers_layout(model) if for_js else labeling_layout(model)
    files: dict[str, Path] = {}
    for graph in (parts.encoder, parts.decoder):
        proto = _export(graph)
        if graph.fits_image:
            _fit_image(proto, model.preprocessing.image_size)
        name = f"{FILES[graph.file]}{SUFFIXES[precision]}" if for_js else graph.file
        files[graph.file] = folder / f"{name}.onnx"
        with written_whole(files[graph.file]) as path:
            _save(proto, path, precision)
    if for_js:
        write_files(folder, {name: json_writer(content) for name, content in transformersjs_files(model).items()})
    agreement = parts.agreement(model, lambda graph, given: run_onnx(files[graph.file], given))
    most = MOST_DIFFERENT if precision == "fp32" else inf
    agreement.require(
        f"path={folder}: precision={precision} in onnxruntime", "use a higher precision", PRECISIONS[precision], most
    )
    return agreement


def _require_libraries(layout: str) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise InputError(f"format={layout} needs {name}: pip install 'sam-train[onnx]'")


@torch.no_grad()
def _export(graph: Graph) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of libraries below it
        program = torch.onnx.export(
            graph.module.eval(),
            graph.examples,
            None,
            dynamo=True,
            opset_version=OPSET,
            input_names=[*graph.inputs],
            output_names=[*graph.outputs],
            dynamic_shapes=graph.dynamic_shapes,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.functions):
        for node in part.node:
            del node.metadata_props[:]  # the places of source files on this machine
    return proto


def _fit_image(proto: onnx.ModelProto, side: int) -> None:
    """Bring a decoder's first output to the image's size, as segment-anything's export does; it stays, as the last.

    The logits are enlarged to the model's input, what was padded is cut off, and the rest is resized to the image.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    logits, iou = graph.output

    def constant(name: str, values: Any, dtype: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))

    constant("fit_side", side, np.float32)
    constant("fit_half", 0.5, np.float32)
    constant("fit_square", [side, side], np.int64)
    constant("fit_zero", [0, 0], np.int64)
    constant("fit_axes", [2, 3], np.int64)
    resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
    node = helper.make_node
    graph.node.extend(
        [
            node("Resize", [logits.name, "", "", "fit_square"], ["fit_large"], **resize),
            node("ReduceMax", ["orig_im_size"], ["fit_longest"], keepdims=0),
            node("Div", ["fit_side", "fit_longest"], ["fit_scale"]),
            node("Mul", ["orig_im_size", "fit_scale"], ["fit_scaled"]),
            node("Add", ["fit_scaled", "fit_half"], ["fit_raised"]),
            node("Floor", ["fit_raised"], ["fit_rounded"]),
            node("Cast", ["fit_rounded"], ["fit_valid"], to=TensorProto.INT64),
            node("Slice", ["fit_large", "fit_zero", "fit_valid", "fit_axes"], ["fit_cut"]),
            node("Cast", ["orig_im_size"], ["fit_size"], to=TensorProto.INT64),
            node("Resize", ["fit_cut", "", "", "fit_size"], ["masks"], **resize),
        ]
    )
    graph.input.append(helper.make_tensor_value_info("orig_im_size", TensorProto.FLOAT, [2]))
    masks = helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["num_labels", 1, "height", "width"])
    kept = [masks, iou, logits]
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del graph.output[:]
    graph.output.extend(copies)


def _save(proto: onnx.ModelProto, path: Path, precision: str) -> None:
    import onnx

    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        proto = convert_float_to_float16(proto, keep_io_types=True, op_block_list=["Resize", "Range", "Floor"])
    onnx.save(proto, path)
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(path, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def run_onnx(path: Path, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a file in onnxruntime on those of the tensors that it asks for; return its outputs by name."""
    from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]

    options = SessionOptions()
    options.log_severity_level = 3  # errors; it warns of each node of half precision that it cannot fold
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {one.name: given[one.name].numpy() for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    return {name: torch.from_numpy(value) for name, value in zip(names, session.run(None, feed), strict=True)}
