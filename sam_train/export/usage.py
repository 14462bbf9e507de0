"""How an exported model is used: for its model card, code that runs where the files are."""

from __future__ import annotations

from pathlib import PurePath

from sam_train.export.card import is_hub_id
from sam_train.models import ImageModel
from sam_train.models.sam.sam import Sam

BY_NAME = ("huggingface", "peft", "transformersjs")
"""Formats that are opened by the name of a repository on the hub; files of the others are downloaded first."""

_TRANSFORMERS = """import torch
from PIL import Image
from transformers import {kind}Model, {kind}Processor

model = {kind}Model.from_pretrained("{name}")
processor = {kind}Processor.from_pretrained("{name}")
image = Image.open("image.png").convert("RGB")
inputs = processor(images=image, input_boxes=[[[8, 6, 42, 26]]], return_tensors="pt")  # a box, in pixels of the image
sizes = [inputs.pop(name) for name in ({sizes})]
with torch.no_grad():
    found = model(**inputs, multimask_output=False)
masks = processor.post_process_masks(found.pred_masks, *sizes)[0]
"""

_PEFT = """from peft import PeftModel
from transformers import {kind}Model

base = {kind}Model.from_pretrained("{base}")  # the untuned model
model = PeftModel.from_pretrained(base, "{name}").merge_and_unload()
"""

_META = """sam-train model={preset} model.weights={name} data.root=...     # the next training begins here
"""

_SAM_ONNX = """import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

encoder, decoder = (InferenceSession(f"{name}/{{part}}.onnx") for part in ("encoder", "decoder"))
image, side = Image.open("image.png").convert("RGB"), {side}
scale = side / max(image.size)
size = [round(length * scale) for length in image.size]
pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
(embedding,) = encoder.run(None, {{"input_image": pixels}})
box = np.array([[[8, 6], [42, 26]]], np.float32) * scale
prompt = {{"point_coords": box, "point_labels": np.array([[2, 3]], np.float32)}}  # of a click: 1; of background: 0
no_mask = {{"mask_input": np.zeros((1, 1, {mask}, {mask}), np.float32), "has_mask_input": np.zeros(1, np.float32)}}
seen = {{"image_embeddings": embedding, "orig_im_size": np.array(image.size[::-1], np.float32)}}
masks = decoder.run(None, seen | prompt | no_mask)[0] > 0
"""

_SAM2_ONNX = """import numpy as np
from onnxruntime import InferenceSession
from PIL import Image

encoder, decoder = (InferenceSession(f"{name}/{{part}}.onnx") for part in ("encoder", "decoder"))
image, side = Image.open("image.png").convert("RGB"), {side}
resized = image.resize((side, side), Image.Resampling.BILINEAR)
pixels = (np.asarray(resized, np.float32) - {mean}) / {std}
features = encoder.run(None, {{"image": pixels.transpose(2, 0, 1)[None].astype(np.float32)}})
seen = dict(zip(("high_res_feats_0", "high_res_feats_1", "image_embed"), features))
box = np.array([[[8, 6], [42, 26]]], np.float32) * (side / np.array(image.size, np.float32))
prompt = {{"point_coords": box, "point_labels": np.array([[2, 3]], np.float32)}}  # of a click: 1; of background: 0
no_mask = {{"mask_input": np.zeros((1, 1, {mask}, {mask}), np.float32), "has_mask_input": np.zeros(1, np.float32)}}
logits, iou = decoder.run(None, seen | prompt | no_mask)
best = Image.fromarray(logits[0, iou[0].argmax()])
masks = np.asarray(best.resize(image.size, Image.Resampling.BILINEAR)) > 0
"""

_JS = """import {{ AutoProcessor, RawImage, {kind}Model }} from '@huggingface/transformers';

const model = await {kind}Model.from_pretrained('{name}', {{ dtype: '{dtype}' }});
const processor = await AutoProcessor.from_pretrained('{name}');
const image = await RawImage.read('image.png');
const inputs = await processor(image, {{ input_points: [[[[25, 16]]]], input_labels: [[[1]]] }});
const {{ pred_masks, iou_scores }} = await model(inputs);
const masks = await processor.post_process_masks(pred_masks, inputs.original_sizes, inputs.reshaped_input_sizes);
"""

_TORCH = """import numpy as np
import torch
from PIL import Image

encoder, decoder = ({load} for part in ("encoder", "decoder"))
image, side = Image.open("image.png").convert("RGB"), {side}
{resized}
pixels = (torch.from_numpy(np.array(resized)).float() - torch.tensor({mean})) / torch.tensor({std})
images = torch.zeros(1, 3, side, side)
images[0, :, : resized.height, : resized.width] = pixels.permute(2, 0, 1)
click = torch.tensor([25.0, 16.0]) * torch.tensor(resized.size) / torch.tensor(image.size)
points, labels = click.view(1, 1, 1, 2), torch.ones(1, 1, 1, dtype=torch.long)  # images, objects, points of each
iou, logits, *_ = decoder(points, labels, {boxes}*encoder(images))
"""

_STRETCHED = "resized = image.resize((side, side), Image.Resampling.BILINEAR)"
_PADDED = """size = [round(length * side / max(image.size)) for length in image.size]
resized = image.resize(size, Image.Resampling.BILINEAR)"""


def usage(model: ImageModel, preset: str, weights: str, name: str, format_: str, precision: str = "fp32") -> str:
    """Return a block of code in Markdown that uses an export.

    Args:
        model: What was exported.
        preset: Its name here.
        weights: Of the untuned model.
        name: The repository, or the name of the folder or file.
        format_: Of the export.
        precision: Of its numbers.
    """
    is_sam, preprocessing = isinstance(model, Sam), model.preprocessing
    loads = {
        "torch": f'torch.export.load(f"{name}/{{part}}.pt2").module()',
        "aoti": f'torch._inductor.aoti_load_package(f"{name}/{{part}}.pt2")',
    }
    template, language = {
        "huggingface": (_TRANSFORMERS, "python"),
        "peft": (_PEFT, "python"),
        "meta": (_META, "sh"),
        "onnx": (_SAM_ONNX if is_sam else _SAM2_ONNX, "python"),
        "transformersjs": (_JS, "js"),
        "torch": (_TORCH, "python"),
        "aoti": (_TORCH, "python"),
    }[format_]
    code = template.format(
        kind="Sam" if is_sam else "Sam2",
        name=name,
        preset=preset,
        base=weights if is_hub_id(weights) else PurePath(weights).name,  # no folders of this machine
        side=preprocessing.image_size,
        mask=model.parts.prompt_encoder.mask_size[0],
        mean=preprocessing.mean,
        std=preprocessing.std,
        sizes='"original_sizes", "reshaped_input_sizes"' if is_sam else '"original_sizes",',
        dtype={"int8": "q8"}.get(precision, precision),
        load=loads.get(format_, ""),
        resized=_PADDED if is_sam else _STRETCHED,
        boxes="" if is_sam else "torch.zeros(1, 0, 4), ",
    )
    return f"```{language}\n{code}```"
