"""SAM 2's image model of any size computes what ``transformers.Sam2Model`` computes, for every kind of prompt."""

import json
from dataclasses import dataclass

import pytest
import torch
import transformers
from torch.testing import assert_close

from sam_train.checkpoints.huggingface import from_huggingface, huggingface_names, layout_of
from sam_train.models import PRESETS
from sam_train.models.sam2.hiera import HieraConfig
from sam_train.models.sam2.mask_decoder import prefer_stable
from sam_train.models.sam2.sam2 import Sam2, Sam2Config
from sam_train.preprocessing import Preprocessing
from sam_train.structures import MaskPrediction, Prompts
from tests.checkpoints.tiny import randomize
from tests.parity.reference import ROOT, needs_reference

IMAGES, OBJECTS = 2, 3  # objects of each image
OBJECT_IMAGE = torch.arange(IMAGES).repeat_interleave(OBJECTS)
DOUBLE = torch.double  # so that rounding does not hide a difference
TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}  # transformers' neck interpolates in single precision

any_number_of_masks = pytest.mark.parametrize("masks", ["three", "one", "dynamic"])

CONFIGS = {
    "windows that divide their maps": Sam2Config(
        HieraConfig(8, 1, depths=(1, 2, 3, 1), global_blocks=(4,), window_sizes=(8, 4, 2, 2)),
        Preprocessing(64, "square"),
        version="2.1",
        dim=32,
        decoder_heads=4,
        decoder_mlp_dim=48,
    ),
    "windows that do not": Sam2Config(
        HieraConfig(6, 2, depths=(2, 1, 2, 2), global_blocks=(4, 6), window_sizes=(8, 14, 6, 4), background_size=14),
        Preprocessing(160, "square"),
        version="2.0",
        dim=64,
        decoder_heads=2,
        decoder_mlp_dim=32,
    ),
    "sam2_nano": PRESETS["sam2_nano"],
}


def equal_config(config: Sam2Config) -> transformers.Sam2Config:
    encoder, size = config.encoder, config.preprocessing.image_size
    stages = range(len(encoder.depths))
    return transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(
                hidden_size=encoder.embed_dim,
                num_attention_heads=encoder.num_heads,
                image_size=[size, size],
                blocks_per_stage=list(encoder.depths),
                embed_dim_per_stage=list(encoder.stage_dims),
                num_attention_heads_per_stage=[encoder.num_heads * 2**stage for stage in stages],
                window_size_per_stage=list(encoder.window_sizes),
                global_attention_blocks=list(encoder.global_blocks),
                window_positional_embedding_background_size=[encoder.background_size] * 2,
            ),
            backbone_channel_list=list(reversed(encoder.stage_dims)),
            backbone_feature_sizes=[[size // stride] * 2 for stride in (4, 8, 16)],
            fpn_hidden_size=config.dim,
        ),
        prompt_encoder_config={"hidden_size": config.dim, "image_size": size},
        mask_decoder_config={
            "hidden_size": config.dim,
            "num_hidden_layers": config.decoder_depth,
            "num_attention_heads": config.decoder_heads,
            "mlp_dim": config.decoder_mlp_dim,
        },
    )


@dataclass
class Pair:
    """Both implementations with the same weights, and a comparison of their outputs for the same images."""

    ours: Sam2
    theirs: transformers.Sam2Model
    images: torch.Tensor

    @property
    def side(self) -> int:
        return self.ours.preprocessing.image_size

    @torch.no_grad()
    def check(self, prompts: Prompts, masks: str, **inputs: torch.Tensor) -> None:
        multimask, dynamic = masks == "three", masks == "dynamic"
        self.theirs.mask_decoder.dynamic_multimask_via_stability = dynamic
        features = self.ours.encode_image(self.images)
        prediction = self.ours.decode(features, prompts, OBJECT_IMAGE, multimask, dynamic_multimask=dynamic)
        tokens = []
        hook = self.theirs.mask_decoder.register_forward_hook(lambda *call: tokens.append(call[-1][2]))
        expected = self.theirs(pixel_values=self.images, multimask_output=multimask, **inputs)
        hook.remove()
        assert prediction.logits.shape[1] == (3 if multimask else 1)
        assert expected.pred_masks.std() > 0.1  # with weights without effect any two models would agree
        assert_close(prediction.logits, expected.pred_masks.flatten(0, 1), **TOLERANCE)
        assert_close(prediction.iou, expected.iou_scores.flatten(0, 1), **TOLERANCE)
        assert_close(prediction.object_score, expected.object_score_logits.flatten(), **TOLERANCE)
        assert_close(prediction.mask_tokens, tokens[0].flatten(0, 1), **TOLERANCE)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request) -> Pair:
    config = CONFIGS[request.param]
    theirs = transformers.Sam2Model(equal_config(config)).double().eval()
    randomize(theirs)
    shared = theirs.shared_image_embedding.positional_embedding  # one matrix under two names
    theirs.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    ours = Sam2(config).double().eval()
    state, unexpected = from_huggingface(theirs.state_dict(), ours.state_dict(), layout_of(ours).renames)
    assert not unexpected
    missing, _ = ours.load_state_dict(state, strict=False)
    assert set(missing) == dict(ours.unused_shapes).keys()
    side = config.preprocessing.image_size
    return Pair(
        ours, theirs, torch.randn(IMAGES, 3, side, side, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    )


def random_points(side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    points = torch.rand(IMAGES * OBJECTS, count, 2, dtype=DOUBLE, generator=generator) * side
    return points, torch.randint(0, 2, (IMAGES * OBJECTS, count), generator=generator)


def random_boxes(side: int) -> torch.Tensor:
    corners = torch.rand(IMAGES * OBJECTS, 2, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(5)) * side
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def per_image(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unflatten(0, (IMAGES, OBJECTS))


@torch.no_grad()
def test_the_image_features(pair):
    features = pair.ours.without_memory(pair.ours.encode_image(pair.images))
    finest, finer, embedding = pair.theirs.get_image_embeddings(pair.images)
    assert_close(features.embedding, embedding, **TOLERANCE)
    assert_close(features.high_res, (finest, finer), **TOLERANCE)


@any_number_of_masks
@pytest.mark.parametrize("count", [1, 4])
def test_points(pair, count, masks):
    points, labels = random_points(pair.side, count)
    inputs = {"input_points": per_image(points), "input_labels": per_image(labels)}
    pair.check(Prompts(points, labels), masks, **inputs)


@any_number_of_masks
def test_boxes(pair, masks):
    boxes = random_boxes(pair.side)
    pair.check(Prompts.from_boxes(boxes), masks, input_boxes=per_image(boxes))


@any_number_of_masks
def test_boxes_with_points(pair, masks):
    boxes, (points, labels) = random_boxes(pair.side), random_points(pair.side, 2)
    inputs = {
        "input_boxes": per_image(boxes),
        "input_points": per_image(points),
        "input_labels": per_image(labels),
    }
    pair.check(Prompts.from_boxes(boxes).with_points(points, labels), masks, **inputs)


@any_number_of_masks
def test_masks_with_points(pair, masks):
    """One mask prompt per image, as ``transformers`` takes them; to masks alone it adds tokens that SAM 2 has not."""
    size = pair.ours.sam_prompt_encoder.mask_size
    given = 5 * torch.randn(IMAGES, 1, *size, dtype=DOUBLE, generator=torch.Generator().manual_seed(6))
    points, labels = random_points(pair.side, 2)
    inputs = {"input_masks": given, "input_points": per_image(points), "input_labels": per_image(labels)}
    pair.check(Prompts(points, labels, masks=given[OBJECT_IMAGE]), masks, **inputs)


@pytest.mark.parametrize("scale", [0.01, 1, 3, 10, 100])
@pytest.mark.parametrize("shift", [-1000, 0, 1000])
def test_stable_masks_are_the_same(pair, scale, shift):
    """Also for steep masks and for masks that cover nothing or everything."""
    generator = torch.Generator().manual_seed(8)
    tokens = MaskPrediction(
        logits=scale * torch.randn(7, 4, 32, 32, generator=generator) + shift,
        iou=torch.rand(7, 4, generator=generator),
    )
    chosen = prefer_stable(tokens)
    logits, iou = pair.theirs.mask_decoder._dynamic_multimask_via_stability(tokens.logits[None], tokens.iou[None])
    assert torch.equal(chosen.logits, logits[0])
    assert torch.equal(chosen.iou, iou[0])


@needs_reference
@pytest.mark.parametrize("model", sorted(folder.name for folder in ROOT.glob("sam2*")))
def test_names_of_the_released_checkpoints_are_converted(model):
    """All names, also those of the memory."""
    reference = json.loads((ROOT / model / "hf_key_map.json").read_text())["map"]
    with torch.device("meta"):
        renames = layout_of(Sam2(CONFIGS["sam2_nano"])).renames  # the same for every size
    for name, theirs in reference.items():
        if isinstance(theirs, dict):
            theirs = f"{theirs['to']}[{theirs['row']}]" if "row" in theirs else tuple(theirs["to"])
        assert huggingface_names(name, renames) == (theirs if isinstance(theirs, tuple) else (theirs,))
