"""SAM of any size computes what ``transformers.SamModel`` computes, for every kind of prompt."""

from dataclasses import dataclass, replace

import pytest
import torch
import transformers
from torch.testing import assert_close

from sam_train.checkpoints import load_checkpoint
from sam_train.models.sam.sam import Sam, SamConfig
from sam_train.models.sam.vit import ViTConfig
from sam_train.preprocessing import Preprocessing
from sam_train.structures import PointLabel, Prompts
from tests.checkpoints.tiny import randomize

IMAGES, OBJECTS = 2, 3  # objects of each image
OBJECT_IMAGE = torch.arange(IMAGES).repeat_interleave(OBJECTS)
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}

CONFIGS = {
    "windows that divide the grid": SamConfig(
        ViTConfig(embed_dim=24, depth=3, num_heads=3, global_blocks=(1,), mlp_dim=40, image_size=64, window_size=2),
        Preprocessing(64),
        dim=32,
        decoder_heads=4,
        decoder_mlp_dim=48,
    ),
    "windows that do not": SamConfig(
        ViTConfig(embed_dim=32, depth=4, num_heads=2, global_blocks=(0, 3), mlp_dim=96, image_size=160, window_size=4),
        Preprocessing(160),
        dim=64,
        decoder_depth=3,
        decoder_heads=2,
        decoder_mlp_dim=32,
    ),
    "windows larger than the grid": SamConfig(
        ViTConfig(embed_dim=16, depth=2, num_heads=4, global_blocks=(1,), mlp_dim=24, image_size=96, window_size=14),
        Preprocessing(96),
        dim=32,
        decoder_depth=1,
        decoder_heads=1,
        decoder_mlp_dim=64,
    ),
    "no windows": SamConfig(
        ViTConfig(embed_dim=20, depth=2, num_heads=5, global_blocks=(0, 1), mlp_dim=30, image_size=128, patch_size=32),
        Preprocessing(128),
        dim=48,
        decoder_heads=3,
        decoder_mlp_dim=16,
    ),
}


def equal_config(config: SamConfig) -> transformers.SamConfig:
    encoder, image_size = config.encoder, config.preprocessing.image_size
    size = {"image_size": image_size, "patch_size": encoder.patch_size}
    return transformers.SamConfig(
        vision_config={
            **size,
            "hidden_size": encoder.embed_dim,
            "output_channels": config.dim,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.num_heads,
            "mlp_dim": encoder.mlp_dim,
            "window_size": encoder.window_size,
            "global_attn_indexes": list(encoder.global_blocks),
            "num_pos_feats": config.dim // 2,
        },
        prompt_encoder_config={**size, "hidden_size": config.dim},
        mask_decoder_config={
            "hidden_size": config.dim,
            "num_hidden_layers": config.decoder_depth,
            "num_attention_heads": config.decoder_heads,
            "mlp_dim": config.decoder_mlp_dim,
            "layer_norm_eps": 1e-5,  # the official decoder's; transformers' own default is 1e-6
        },
    )


@dataclass
class Pair:
    """Both implementations with the same weights, and a comparison of their outputs for the same images."""

    ours: Sam
    theirs: transformers.SamModel
    images: torch.Tensor

    @property
    def side(self) -> int:
        return self.ours.preprocessing.image_size

    @torch.no_grad()
    def check(self, prompts: Prompts, object_image: torch.Tensor, multimask: bool, **inputs: torch.Tensor) -> None:
        prediction = self.ours.decode(self.ours.encode_image(self.images), prompts, object_image, multimask)
        expected = self.theirs(pixel_values=self.images, multimask_output=multimask, **inputs)
        assert prediction.logits.shape[1] == (3 if multimask else 1)
        assert expected.pred_masks.std() > 0.1  # with weights without effect any two models would agree
        assert_close(prediction.logits, expected.pred_masks.flatten(0, 1), **TOLERANCE)
        assert_close(prediction.iou, expected.iou_scores.flatten(0, 1), **TOLERANCE)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory) -> Pair:
    config = CONFIGS[request.param]
    theirs = transformers.SamModel(equal_config(config)).eval()
    randomize(theirs)
    folder = tmp_path_factory.mktemp("weights")
    theirs.save_pretrained(folder)
    ours = Sam(config).eval()
    load_checkpoint(ours, folder)
    side = config.preprocessing.image_size
    return Pair(ours, theirs, torch.randn(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(1)))


def random_points(side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(IMAGES * OBJECTS, count, 2, generator=generator) * side
    return points, torch.randint(0, 2, (IMAGES * OBJECTS, count), generator=generator)


def random_boxes(side: int) -> torch.Tensor:
    corners = torch.rand(IMAGES * OBJECTS, 2, 2, generator=torch.Generator().manual_seed(5)) * side
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def per_image(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unflatten(0, (IMAGES, OBJECTS))


@torch.no_grad()
def test_the_image_embedding(pair):
    assert_close(
        pair.ours.encode_image(pair.images).embedding, pair.theirs.get_image_embeddings(pair.images), **TOLERANCE
    )


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_points(pair, count, multimask):
    points, labels = random_points(pair.side, count)
    inputs = {"input_points": per_image(points), "input_labels": per_image(labels)}
    pair.check(Prompts(points, labels), OBJECT_IMAGE, multimask, **inputs)


@pytest.mark.parametrize("multimask", [True, False])
def test_boxes(pair, multimask):
    boxes = random_boxes(pair.side)
    pair.check(Prompts.from_boxes(boxes), OBJECT_IMAGE, multimask, input_boxes=per_image(boxes))


@pytest.mark.parametrize("multimask", [True, False])
def test_boxes_with_points(pair, multimask):
    boxes, (points, labels) = random_boxes(pair.side), random_points(pair.side, 2)
    inputs = {
        "input_boxes": per_image(boxes),
        "input_points": per_image(points),
        "input_labels": per_image(labels),
    }
    pair.check(Prompts.from_boxes(boxes).with_points(points, labels), OBJECT_IMAGE, multimask, **inputs)


def random_masks(pair: Pair) -> torch.Tensor:
    """One mask prompt for each image, as ``transformers`` takes them."""
    return 5 * torch.randn(IMAGES, 1, *pair.ours.prompt_encoder.mask_size, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_with_points(pair, multimask):
    masks, (points, labels) = random_masks(pair), random_points(pair.side, 2)
    inputs = {"input_masks": masks, "input_points": per_image(points), "input_labels": per_image(labels)}
    pair.check(Prompts(points, labels, masks=masks[OBJECT_IMAGE]), OBJECT_IMAGE, multimask, **inputs)


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_alone(pair, multimask):
    masks = random_masks(pair)
    nothing = Prompts(torch.zeros(IMAGES, 0, 2), torch.zeros(IMAGES, 0, dtype=torch.long), masks=masks)
    pair.check(nothing, torch.arange(IMAGES), multimask, input_masks=masks)


@torch.no_grad()
def test_objects_with_different_kinds_of_prompts_in_one_batch(pair):
    """A click, a box, a box with a click and a mask with a click give the same masks as each of them alone."""
    empty, corners = PointLabel.EMPTY, [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]
    labels = torch.tensor([[1, empty, empty], [*corners, empty], [*corners, 0], [empty, empty, 1]])
    points = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(7)) * pair.side
    mask, image = random_masks(pair)[:1], pair.images[:1]
    prompts = Prompts(points, labels, masks=mask.expand(4, -1, -1, -1), has_mask=torch.tensor([0, 0, 0, 1]).bool())
    features = pair.ours.encode_image(image)
    prediction = pair.ours.decode(features, prompts, torch.zeros(4, dtype=torch.long), multimask=True)
    alone = [
        {"input_points": points[None, 0:1, :1], "input_labels": torch.tensor([[[1]]])},
        {"input_boxes": points[None, 1:2, :2].flatten(2)},
        {
            "input_boxes": points[None, 2:3, :2].flatten(2),
            "input_points": points[None, 2:3, 2:],
            "input_labels": torch.tensor([[[0]]]),
        },
        {"input_points": points[None, 3:4, 2:], "input_labels": torch.tensor([[[1]]]), "input_masks": mask},
    ]
    for index, inputs in enumerate(alone):
        expected = pair.theirs(pixel_values=image, **inputs)
        assert_close(prediction.logits[index], expected.pred_masks[0, 0], **TOLERANCE)
        assert_close(prediction.iou[index], expected.iou_scores[0, 0], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["points", "boxes", "boxes with points", "nothing"])
def test_empty_slots_change_nothing(pair, kind):
    points, labels = random_points(pair.side, 2)
    boxes = Prompts.from_boxes(random_boxes(pair.side))
    prompts = {
        "points": Prompts(points, labels),
        "boxes": boxes,
        "boxes with points": boxes.with_points(points, labels),
        "nothing": Prompts(points[:, :0], labels[:, :0]),
    }[kind]
    elsewhere = torch.full_like(points, 7.0)
    empty = torch.full_like(labels, PointLabel.EMPTY)
    after = prompts.with_points(elsewhere, empty)
    before = replace(
        prompts,
        points=torch.cat([elsewhere, prompts.points], dim=1),
        labels=torch.cat([empty, prompts.labels], dim=1),
    )
    features = pair.ours.encode_image(pair.images)
    expected = pair.ours.decode(features, prompts, OBJECT_IMAGE, multimask=True)
    for padded in (after, before):
        prediction = pair.ours.decode(features, padded, OBJECT_IMAGE, multimask=True)
        assert_close(prediction.logits, expected.logits, **TOLERANCE)
        assert_close(prediction.iou, expected.iou, **TOLERANCE)
