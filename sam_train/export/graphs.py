"""Models as other runtimes call them: tensors in, tensors out, by the names that tools in the field expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sam_train.export.agreement import Agreement, Scene, agreement_of
from sam_train.models import ImageModel
from sam_train.models.sam.sam import Sam
from sam_train.models.sam2.sam2 import Sam2
from sam_train.structures import ImageFeatures, MaskPrediction, Prompts

Dynamic = Mapping[int, str]
"""Axis of a tensor to the name of its length, where that may vary."""

_OBJECTS, _POINTS = "num_labels", "num_points"


@dataclass(frozen=True)
class Graph:
    """One file of a layout.

    Attributes:
        file: Its name below the folder, without the suffix.
        module: What it computes.
        inputs: Name of each input to an example and the axes that may vary.
        outputs: Names of the outputs.
        fits_image: Of a decoder: whether its masks, the first output, are to be brought to the image's size, given as
            one more input ``orig_im_size``.
    """

    file: str
    module: nn.Module
    inputs: Mapping[str, tuple[Tensor, Dynamic]]
    outputs: Sequence[str]
    fits_image: bool = False

    @property
    def examples(self) -> tuple[Tensor, ...]:
        """One of each input, laid out in memory as what is given later: a compiled program reads no strides."""
        return tuple(example.contiguous() for example, _ in self.inputs.values())

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any] | None, ...]:
        """The lengths that may vary, input by input, as ``torch.export`` reads them."""
        names = dict.fromkeys(name for _, axes in self.inputs.values() for name in axes.values())
        lengths = {name: torch.export.Dim(name, min=0, max=4096) for name in names}
        return tuple({axis: lengths[name] for axis, name in axes.items()} or None for _, axes in self.inputs.values())

    @torch.no_grad()
    def program(self) -> torch.export.ExportedProgram:
        """Return the module as a program of PyTorch, without the places of source files on this machine."""
        program = torch.export.export(
            self.module.eval(), self.examples, dynamic_shapes=self.dynamic_shapes, strict=False
        )
        for part in program.graph_module.modules():
            for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
                node.meta.pop("stack_trace", None)
        return program


Runner = Callable[[Graph, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Runs what was exported of a graph on the inputs it asks for, in its own runtime; returns the outputs by name."""


@dataclass(frozen=True)
class Layout:
    """Encoder and decoder as one family of tools calls them.

    Attributes:
        encoder: From an image to features.
        decoder: From features and prompts to masks.
        given: What the two are given for an image and prompts of its objects, by name.
        logits: Which output of the decoder are the logits of its masks.
        expected: The same logits of the model's own three candidates.
    """

    encoder: Graph
    decoder: Graph
    given: Callable[[Scene, Prompts], Mapping[str, Tensor]]
    logits: str
    expected: Callable[[MaskPrediction], Tensor]

    @torch.no_grad()
    def agreement(self, model: ImageModel, run: Runner) -> Agreement:
        """Find objects of a procedural image with the exported files and with the model.

        Args:
            model: What was exported.
            run: Runs the exported files.
        """
        scene, found = Scene.of(model), []
        for prompts in scene.prompts:
            given = {name: value.contiguous() for name, value in self.given(scene, prompts).items()}
            found.append(run(self.decoder, {**given, **run(self.encoder, given)})[self.logits])
        return agreement_of(found, [self.expected(one) for one in scene.found_by(model)])


class SamEncoder(nn.Module):
    """SAM's image encoder, with normalization and padding inside."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_image: Float[Tensor, "h w 3"]) -> Float[Tensor, "1 C e e"]:
        """Encode an image of 0 to 255 whose longest side is the model's."""
        preprocessing = self.model.preprocessing
        side = preprocessing.image_size
        mean, std = (input_image.new_tensor(values) for values in (preprocessing.mean, preprocessing.std))
        image = ((input_image - mean) / std).permute(2, 0, 1)
        padded = F.pad(image, (0, side - image.shape[2], 0, side - image.shape[1]))
        return self.model.encode_image(padded[None]).embedding


class SamDecoder(nn.Module):
    """SAM's prompt encoder and mask decoder, of the objects of one image; one mask each, as labeling tools want."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_embeddings: Float[Tensor, "1 C e e"],
        point_coords: Float[Tensor, "P N 2"],
        point_labels: Float[Tensor, "P N"],
        mask_input: Float[Tensor, "1 1 m m"],
        has_mask_input: Float[Tensor, "1"],
    ) -> tuple[Float[Tensor, "P 1 m m"], Float[Tensor, "P 1"]]:
        """Return logits and predicted IoU: of the single mask or, with one point or none, of the best of the three."""
        num_objects = point_coords.shape[0]
        mask = mask_input.expand(num_objects, -1, -1, -1)
        found = _all_masks(
            self.model,
            ImageFeatures(image_embeddings),
            Prompts(point_coords, point_labels.long(), mask, (has_mask_input > 0).expand(num_objects)),
        )
        # As the official export decides: a click comes with a point that says nothing, which makes two.
        first = torch.arange(found.iou.shape[1], device=found.iou.device) == 0
        num_points = torch.ones_like(point_labels[:1]).sum(dim=1, keepdim=True)  # a number would be fixed in an export
        score = found.iou + (num_points - 2.5) * 1000 * first
        best = score.argmax(dim=1, keepdim=True)
        logits = found.logits.gather(1, best[..., None, None].expand(-1, -1, *found.logits.shape[2:]))
        return logits, found.iou.gather(1, best)


class Sam2Encoder(nn.Module):
    """SAM 2's image encoder, with the no-memory embedding of still images."""

    def __init__(self, model: Sam2) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, Tensor, Tensor]:
        """Encode normalized images of the model's size; return the features, the finest first."""
        features = self.model.without_memory(self.model.encode_image(image))
        assert features.high_res
        finest, finer = features.high_res
        return finest.contiguous(), finer.contiguous(), features.embedding.contiguous()  # as the decoder reads them


class Sam2Decoder(nn.Module):
    """SAM 2's prompt encoder and mask decoder, of the objects of one image: three masks each."""

    def __init__(self, model: Sam2) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_embed: Float[Tensor, "1 C e e"],
        high_res_feats_0: Float[Tensor, "1 c0 m m"],
        high_res_feats_1: Float[Tensor, "1 c1 n n"],
        point_coords: Float[Tensor, "P N 2"],
        point_labels: Float[Tensor, "P N"],
        mask_input: Float[Tensor, "P 1 m m"],
        has_mask_input: Float[Tensor, "P"],
    ) -> tuple[Float[Tensor, "P 3 m m"], Float[Tensor, "P 3"]]:
        """Return logits of the three candidates, as the official predictor bounds them, and their predicted IoU."""
        found = _all_masks(
            self.model,
            ImageFeatures(image_embed, (high_res_feats_0, high_res_feats_1)),
            Prompts(point_coords, point_labels.long(), mask_input, has_mask_input > 0),
        )
        limit = self.model.logit_limit
        return found.logits[:, 1:].clamp(-limit, limit), found.iou[:, 1:]


def _all_masks(model: ImageModel, features: ImageFeatures, prompts: Prompts) -> MaskPrediction:
    """Decode the masks of all four tokens; SAM 2's embedding has seen that there is no memory."""
    _, prompt_encoder, decoder = model.parts
    on_image = torch.zeros_like(prompts.labels[:, 0])
    return decoder.predict_tokens(features, prompt_encoder.dense_position(), prompt_encoder(prompts), on_image)


@torch.no_grad()
def labeling_layout(model: ImageModel) -> Layout:
    """Return encoder and decoder: of SAM as segment-anything names tensors, of SAM 2 as samexporter does.

    X-AnyLabeling and AnyLabeling read these; the order of inputs and outputs is theirs.
    """
    return _sam_layout(model) if isinstance(model, Sam) else _sam2_layout(model)


def _prompts(model: ImageModel) -> dict[str, tuple[Tensor, Dynamic]]:
    axes: Dynamic = {0: _OBJECTS, 1: _POINTS}
    points, labels = torch.rand(3, 5, 2) * model.preprocessing.image_size, torch.randint(0, 2, (3, 5)).float()
    return {"point_coords": (points, axes), "point_labels": (labels, axes)}


def _sam_layout(model: Sam) -> Layout:
    side, mask_size = model.preprocessing.image_size, model.parts.prompt_encoder.mask_size
    encoder, image = SamEncoder(model), torch.rand(side, side // 2, 3) * 255
    inputs = {
        "image_embeddings": (encoder(image), {}),
        **_prompts(model),
        "mask_input": (torch.randn(1, 1, *mask_size), {}),
        "has_mask_input": (torch.ones(1), {}),
    }

    def given(scene: Scene, prompts: Prompts) -> dict[str, Tensor]:
        return {
            "input_image": scene.unpadded().permute(1, 2, 0),
            "point_coords": prompts.points,
            "point_labels": prompts.labels.float(),
            "mask_input": torch.zeros(1, 1, *mask_size),
            "has_mask_input": torch.zeros(1),
            "orig_im_size": torch.tensor(scene.original_size, dtype=torch.float),
        }

    sizes: Dynamic = {0: "image_height", 1: "image_width"}
    return Layout(
        Graph("encoder", encoder, {"input_image": (image, sizes)}, ("image_embeddings",)),
        Graph("decoder", SamDecoder(model), inputs, ("low_res_masks", "iou_predictions"), fits_image=True),
        given,
        "low_res_masks",
        lambda prediction: prediction.best().logits,
    )


def _sam2_layout(model: ImageModel) -> Layout:
    assert isinstance(model, Sam2)
    side, mask_size, limit = model.preprocessing.image_size, model.parts.prompt_encoder.mask_size, model.logit_limit
    encoder, image = Sam2Encoder(model), torch.randn(1, 3, side, side)
    finest, finer, embedding = encoder(image)
    inputs = {
        "image_embed": (embedding, {}),
        "high_res_feats_0": (finest, {}),
        "high_res_feats_1": (finer, {}),
        **_prompts(model),
        "mask_input": (torch.randn(3, 1, *mask_size), {0: _OBJECTS}),
        "has_mask_input": (torch.ones(3), {0: _OBJECTS}),
    }

    def given(scene: Scene, prompts: Prompts) -> dict[str, Tensor]:
        return {
            "image": scene.normalized(model),
            "point_coords": prompts.points,
            "point_labels": prompts.labels.float(),
            "mask_input": torch.zeros(len(prompts.points), 1, *mask_size),
            "has_mask_input": torch.zeros(len(prompts.points)),
        }

    return Layout(
        Graph("encoder", encoder, {"image": (image, {})}, ("high_res_feats_0", "high_res_feats_1", "image_embed")),
        Graph("decoder", Sam2Decoder(model), inputs, ("masks", "iou_predictions")),
        given,
        "masks",
        lambda prediction: prediction.logits.clamp(-limit, limit),
    )
