"""ONNX: an image encoder and a decoder of prompts as two files, run in onnxruntime before they are called done."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sam_train.data.loading.collate import to_batch
from sam_train.data.loading.transforms import resize_sample
from sam_train.data.world.source import ToyImages
from sam_train.errors import InputError
from sam_train.export.graphs import Graph, graphs_of
from sam_train.files import written_whole
from sam_train.models import ImageModel
from sam_train.prompts.sampling import masks_to_boxes
from sam_train.structures import Prompts

if TYPE_CHECKING:
    import onnx

OPSET = 18  # from which on Resize takes the sizes of some axes
PRECISIONS: Mapping[str, float] = {"fp32": 0.999, "fp16": 0.98, "int8": 0.8}
"""Numbers of the weights, and the mean IoU that the masks must have with ours."""

_OBJECTS_COMPARED = 8


@dataclass(frozen=True)
class Agreement:
    """How an exported model does in its own runtime.

    Attributes:
        iou: Mean IoU of its masks with ours.
        difference: The largest difference of a logit.
    """

    iou: float
    difference: float


def export_onnx(model: ImageModel, folder: Path, precision: str = "fp32") -> Agreement:
    """Write ``encoder.onnx`` and ``decoder.onnx`` and compare what they find with what the model finds.

    Args:
        model: Adapters merged, on the CPU.
        folder: Where the files go.
        precision: One of :data:`PRECISIONS`. Inputs and outputs stay 32-bit floating point.

    Raises:
        InputError: If a library is not installed, or the masks are not those of the model.
    """
    _require_libraries()
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision}: expected one of {', '.join(PRECISIONS)}")
    graphs = graphs_of(model)
    for graph in graphs:
        proto = _export(graph)
        if graph.fits_image:
            _fit_image(proto, model.preprocessing.image_size)
        with written_whole(folder / f"{graph.file}.onnx") as path:
            _save(proto, path, precision)
    agreement = compare(model, graphs, folder)
    if agreement.iou < PRECISIONS[precision]:
        raise InputError(
            f"path={folder}: in onnxruntime the masks of precision={precision} have an IoU of {agreement.iou:.3f} with "
            f"the model's own, less than {PRECISIONS[precision]}; use a higher precision"
        )
    return agreement


def _require_libraries() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(name) is None:
            raise InputError(f"format=onnx needs {name}: pip install 'sam-train[onnx]'")


@torch.no_grad()
def _export(graph: Graph) -> onnx.ModelProto:
    named: dict[str, Any] = {}
    shapes: dict[str, Any] = {}
    for name, (_, axes) in graph.inputs.items():
        for length in axes.values():
            named.setdefault(length, torch.export.Dim(length, min=1, max=4096))
        shapes[name] = {axis: named[length] for axis, length in axes.items()} or None
    examples = tuple(example for example, _ in graph.inputs.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of libraries below it
        program = torch.onnx.export(
            graph.module.eval(),
            examples,
            None,
            dynamo=True,
            opset_version=OPSET,
            input_names=[*graph.inputs],
            output_names=[*graph.outputs],
            dynamic_shapes=tuple(shapes.values()),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


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


@torch.no_grad()
def compare(model: ImageModel, graphs: Sequence[Graph], folder: Path) -> Agreement:
    """Find objects of a procedural image by their boxes, in onnxruntime and with the model."""
    encoder, decoder = graphs
    sample = ToyImages("world", "test", 1, model.preprocessing.image_size).read(0)
    batch = to_batch(resize_sample(sample, model.preprocessing), model.preprocessing, sample.size)
    assert batch.images is not None
    pixels = batch.images.float()
    if "input_image" in encoder.inputs:
        image = pixels[0].permute(1, 2, 0)
    else:
        image = model.preprocessing.normalize(pixels, batch.valid_size)
    points = Prompts.from_boxes(masks_to_boxes(batch.masks)).points[:_OBJECTS_COMPARED]
    said = {
        "point_coords": points,
        "point_labels": torch.tensor([[2.0, 3.0]]).expand(len(points), -1),
        "mask_input": torch.zeros(len(points), 1, *model.parts.prompt_encoder.mask_size),
        "has_mask_input": torch.zeros(len(points)),
        "orig_im_size": torch.tensor(sample.size, dtype=torch.float),
    }
    if not decoder.inputs["mask_input"][1]:  # one for all objects
        said |= {"mask_input": said["mask_input"][:1], "has_mask_input": said["has_mask_input"][:1]}
    seen = _run(folder / f"{encoder.file}.onnx", [image])
    names = [name for name in decoder.inputs if name not in said]
    theirs = dict(zip(encoder.outputs, seen, strict=True))
    logits = _run(folder / f"{decoder.file}.onnx", [*(theirs[name] for name in names), *_in_order(decoder, said)])
    ours = encoder.module(image)
    features = [ours] if isinstance(ours, Tensor) else list(ours)
    by_name = dict(zip(encoder.outputs, features, strict=True)) | said
    expected = decoder.module(*(by_name[name] for name in decoder.inputs))[0]
    found = logits[-1 if decoder.fits_image else 0]
    both, either = ((found > 0) & (expected > 0)).sum((-1, -2)), ((found > 0) | (expected > 0)).sum((-1, -2))
    return Agreement(float((both / either.clamp(min=1)).mean()), float((found - expected).abs().max()))


def _in_order(decoder: Graph, said: Mapping[str, Tensor]) -> list[Tensor]:
    names = [*decoder.inputs, *["orig_im_size"] * decoder.fits_image]
    return [said[name] for name in names if name in said]


def _run(path: Path, given: Sequence[Tensor]) -> list[Tensor]:
    """Run a file on inputs in its order."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    named = zip(session.get_inputs(), given, strict=True)
    return [torch.from_numpy(one) for one in session.run(None, {one.name: value.numpy() for one, value in named})]
