"""The layout of transformers.js, which runs ``SamModel`` and ``Sam2Model`` in browsers and in node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sam_train.checkpoints.huggingface import layout_of
from sam_train.checkpoints.huggingface_sam import sam_processors
from sam_train.checkpoints.huggingface_sam2 import sam2_processors
from sam_train.export.agreement import Scene
from sam_train.export.graphs import Dynamic, Graph, Layout, Sam2Encoder
from sam_train.models import ImageModel
from sam_train.models.sam.sam import Sam
from sam_train.models.sam2.sam2 import Sam2
from sam_train.structures import ImageFeatures, MaskPrediction, PointLabel, Prompts

SUFFIXES: Mapping[str, str] = {"fp32": "", "fp16": "_fp16", "int8": "_quantized"}
"""What transformers.js adds to a file's name for a ``dtype``: ``fp32``, ``fp16``, ``q8``."""

FILES: Mapping[str, str] = {"encoder": "onnx/vision_encoder", "decoder": "onnx/prompt_encoder_mask_decoder"}
"""Where it looks for the two."""

_IMAGES, _OBJECTS, _POINTS = "batch_size", "point_batch_size", "num_points_per_image"


class SamEncoder(nn.Module):
    """SAM's image encoder, for B images."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, Tensor]:
        """Return features of normalized images, and the encoding of their cells' places."""
        embedding = self.model.encode_image(pixel_values).embedding.contiguous()  # as the decoder reads it
        return embedding, self.model.prompt_encoder.dense_position().repeat(embedding.shape[0], 1, 1, 1)


class _Decoder(nn.Module):
    """Prompt encoder and mask decoder for B images with P objects each; the image encoder's weights are not in it."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        _, self.prompt_encoder, self.mask_decoder = model.parts

    def decode(
        self, features: ImageFeatures, position: Tensor, prompts: Prompts, labels: Int[Tensor, "B P N"]
    ) -> MaskPrediction:
        """Decode the masks of all four tokens."""
        images = torch.arange(labels.shape[0], device=labels.device)[:, None].expand(-1, labels.shape[1]).flatten()
        return self.mask_decoder.predict_tokens(features, position, self.prompt_encoder(prompts), images)


class SamDecoder(_Decoder):
    """SAM's prompt encoder and mask decoder. Labels 2 and 3 are corners of a box, which the original does not know."""

    def forward(
        self,
        input_points: Float[Tensor, "B P N 2"],
        input_labels: Int[Tensor, "B P N"],
        image_embeddings: Float[Tensor, "B C e e"],
        image_positional_embeddings: Float[Tensor, "B C e e"],
    ) -> tuple[Float[Tensor, "B P 3"], Float[Tensor, "B P 3 m m"]]:
        """Return predicted IoU and logits of three candidates."""
        prompts = Prompts(input_points.flatten(0, 1), input_labels.flatten(0, 1).clamp(min=PointLabel.EMPTY.value))
        features, position = ImageFeatures(image_embeddings), image_positional_embeddings[:1]
        found = self.decode(features, position, prompts, input_labels)
        return _by_image(found.iou[:, 1:], input_labels), _by_image(found.logits[:, 1:], input_labels)


class Sam2Decoder(_Decoder):
    """SAM 2's prompt encoder and mask decoder, for points, boxes or both."""

    def forward(
        self,
        input_points: Float[Tensor, "B Q N 2"],
        input_labels: Int[Tensor, "B P N"],
        input_boxes: Float[Tensor, "B K 4"],
        finest: Float[Tensor, "B c0 m m"],
        finer: Float[Tensor, "B c1 n n"],
        embedding: Float[Tensor, "B C e e"],
    ) -> tuple[Float[Tensor, "B P 3"], Float[Tensor, "B P 3 m m"], Float[Tensor, "B P 1"]]:
        """Return predicted IoU and logits of three candidates, and the logit of the object being there.

        Args:
            input_points: x, y; with boxes alone N is 0 and Q is 1, as transformers.js has it. Otherwise Q is P.
            input_labels: Of the points.
            input_boxes: x, y of two corners; K is P, or 0 where there are points alone.
            finest: At a quarter of the input's side.
            finer: At an eighth.
            embedding: At a sixteenth.
        """
        num_boxes, (num_images, num_objects, num_points) = input_boxes.shape[1], input_labels.shape
        # Filled up and cut rather than compared or expanded, which an export would allow for some of the sizes alone.
        more = input_points.new_zeros(num_images, num_objects, num_points, 2)
        points = torch.cat([input_points, more], dim=1)[:, :num_objects]
        boxes = torch.cat([input_boxes, input_boxes.new_zeros(num_images, num_objects, 4)], dim=1)[:, :num_objects]
        is_boxed = (torch.arange(num_objects, device=boxes.device) < num_boxes)[None, :, None]
        corners = torch.tensor([PointLabel.BOX_TOP_LEFT.value, PointLabel.BOX_BOTTOM_RIGHT.value], device=boxes.device)
        said = torch.where(is_boxed, corners, PointLabel.EMPTY.value).expand(num_images, -1, -1)
        labels = torch.cat([said, input_labels.clamp(min=PointLabel.EMPTY.value)], dim=2)
        prompts = Prompts(torch.cat([boxes.unflatten(2, (2, 2)), points], 2).flatten(0, 1), labels.flatten(0, 1))
        position = self.prompt_encoder.dense_position()
        found = self.decode(ImageFeatures(embedding, (finest, finer)), position, prompts, labels)
        assert found.object_score is not None
        each = found.iou[:, 1:], found.logits[:, 1:], found.object_score[:, None]
        iou, logits, score = (_by_image(one, labels) for one in each)
        return iou, logits, score


def _by_image(values: Tensor, labels: Int[Tensor, "B P N"]) -> Tensor:
    return values.unflatten(0, labels.shape[:2])


@torch.no_grad()
def transformers_layout(model: ImageModel) -> Layout:
    """Return encoder and decoder with the names and shapes of ``transformers`` that transformers.js 4 feeds and reads.

    ``packages/transformers/src/models/{sam,sam2}`` of huggingface/transformers.js.
    """
    side, two = model.preprocessing.image_size, 2
    images = torch.randn(two, 3, side, side)
    points, labels = torch.rand(two, 3, 5, 2) * side, torch.randint(0, 2, (two, 3, 5))
    of_image: Dynamic = {0: _IMAGES}
    prompts = {
        "input_points": (points, {0: _IMAGES, 1: _OBJECTS, 2: _POINTS}),
        "input_labels": (labels, {0: _IMAGES, 1: _OBJECTS, 2: _POINTS}),
    }
    if isinstance(model, Sam):
        encoder, decoder = SamEncoder(model), SamDecoder(model)
        features = ("image_embeddings", "image_positional_embeddings")
        outputs = ("iou_scores", "pred_masks")
    else:
        assert isinstance(model, Sam2)
        encoder, decoder = Sam2Encoder(model), Sam2Decoder(model)
        features = tuple(f"image_embeddings.{level}" for level in range(3))
        outputs = ("iou_scores", "pred_masks", "object_score_logits")
        prompts["input_points"] = (points, {0: _IMAGES, 1: "num_point_objects", 2: _POINTS})
        prompts["input_boxes"] = (torch.rand(two, 3, 4) * side, {0: _IMAGES, 1: "num_boxes"})
    seen = {name: (value, of_image) for name, value in zip(features, encoder(images), strict=True)}
    return Layout(
        Graph("encoder", encoder, {"pixel_values": (images, of_image)}, features),
        Graph("decoder", decoder, prompts | seen, outputs),
        lambda scene, prompts: _given(model, scene, prompts),
        "pred_masks",
        lambda prediction: prediction.logits[None],
    )


def _given(model: ImageModel, scene: Scene, prompts: Prompts) -> dict[str, Tensor]:
    """Return what transformers.js gives; its processor makes boxes of corners for SAM 2 alone."""
    given = {"pixel_values": scene.normalized(model), "input_points": prompts.points[None]}
    given["input_labels"] = prompts.labels[None]
    if isinstance(model, Sam):
        return given
    if (prompts.labels == PointLabel.BOX_TOP_LEFT.value).any():
        num_objects = len(prompts.points)
        none = {"input_points": torch.zeros(1, 1, 0, 2), "input_labels": torch.zeros(1, num_objects, 0).long()}
        return given | none | {"input_boxes": prompts.points.flatten(1)[None]}
    return given | {"input_boxes": torch.zeros(1, 0, 4)}


def transformersjs_files(model: ImageModel) -> dict[str, Mapping[str, Any]]:
    """Return the JSON files of the folder: sizes, and how images become the model's input."""
    layout = layout_of(model)
    # transformers has no MobileSAM; transformers.js runs it, since it reads no sizes of SAM.
    config = dict(layout.image_config) if layout else {"architectures": ["SamModel"], "model_type": "sam"}
    if isinstance(model, Sam):
        return {"config.json": config, **sam_processors(model)}
    assert isinstance(model, Sam2)
    config["vision_config"] = {**config["vision_config"], "num_feature_levels": 3}
    processor = sam2_processors(model)["preprocessor_config.json"]
    return {"config.json": config, "preprocessor_config.json": {**processor, "processor_class": "Sam2Processor"}}
