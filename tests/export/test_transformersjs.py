"""Folders for transformers.js: its names and shapes, and the model's masks for whatever its processor gives."""

import json

import onnxruntime
import pytest
import torch

from sam_train.export.onnx import export_onnx, run_onnx
from sam_train.export.transformersjs import transformersjs_files
from sam_train.models import build_model
from sam_train.structures import PointLabel, Prompts
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build

FEATURES = {
    "sam": ["image_embeddings", "image_positional_embeddings"],
    "sam2": [f"image_embeddings.{level}" for level in range(3)],
}
SCORES = {"sam": ["iou_scores", "pred_masks"], "sam2": ["iou_scores", "pred_masks", "object_score_logits"]}
PROMPTS = {"sam": ["input_points", "input_labels"], "sam2": ["input_points", "input_labels", "input_boxes"]}


@pytest.fixture(scope="module", params=["sam", "sam2"])
def exported(request, tmp_path_factory):
    model = build(CONFIG if request.param == "sam" else SAM2_CONFIG)
    folder = tmp_path_factory.mktemp(request.param)
    agreement = export_onnx(model, folder, layout="transformersjs")
    assert agreement.iou > 0.999
    assert agreement.difference < 1e-3
    return request.param, model, folder


def test_files_and_names_are_what_transformersjs_reads(exported):
    kind, _, folder = exported
    names = {"config.json", "preprocessor_config.json", "onnx"}
    assert {path.name for path in folder.iterdir()} == names
    config, processor = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("config", "preprocessor_config")
    )
    assert config["model_type"] == kind
    assert processor["processor_class"] == {"sam": "SamProcessor", "sam2": "Sam2Processor"}[kind]
    assert kind == "sam" or config["vision_config"]["num_feature_levels"] == 3
    sessions = [
        onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("vision_encoder", "prompt_encoder_mask_decoder")
    ]
    encoder, decoder = ([[one.name for one in ends] for ends in (s.get_inputs(), s.get_outputs())] for s in sessions)
    assert encoder == [["pixel_values"], FEATURES[kind]]
    assert decoder == [[*PROMPTS[kind], *FEATURES[kind]], SCORES[kind]]
    assert sessions[1].get_inputs()[1].type == "tensor(int64)"


@pytest.fixture(scope="module")
def seen(exported):
    """Two images, and what the encoder and the model see in them."""
    _, model, folder = exported
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode_image(images), run_onnx(folder / "onnx" / "vision_encoder.onnx", {"pixel_values": images})


@pytest.mark.parametrize(
    ("num_objects", "num_points", "boxes"), [(1, 1, "no"), (3, 4, "no"), (3, 0, "all"), (1, 2, "all")]
)
@torch.no_grad()
def test_masks_are_the_models_for_points_boxes_and_both_on_two_images(exported, seen, num_objects, num_points, boxes):
    kind, model, folder = exported
    if kind == "sam" and boxes == "all":
        pytest.skip("SAM's decoder takes the corners of a box as points")
    generator = torch.Generator().manual_seed(num_objects)
    points = torch.rand(2, num_objects, num_points, 2, generator=generator) * 128
    labels = torch.randint(0, 2, (2, num_objects, num_points), generator=generator)
    corners = torch.rand(2, num_objects, 4, generator=generator) * 128
    features, named = seen
    given = {**named, "input_points": points if num_points else torch.zeros(2, 1, 0, 2), "input_labels": labels}
    prompts = Prompts(points.flatten(0, 1), labels.flatten(0, 1))
    if boxes == "all":
        prompts = Prompts.from_boxes(corners.flatten(0, 1)).with_points(prompts.points, prompts.labels)
    given["input_boxes"] = corners if boxes == "all" else corners[:, :0]
    found = run_onnx(folder / "onnx" / "prompt_encoder_mask_decoder.onnx", given)
    expected = model.predict(features, prompts, torch.arange(2).repeat_interleave(num_objects), multimask=True)
    assert found["pred_masks"].shape == (2, num_objects, 3, 32, 32)
    assert found["iou_scores"].shape == (2, num_objects, 3)
    assert (expected.logits - found["pred_masks"].flatten(0, 1)).abs().max() < 2e-3
    assert (expected.iou - found["iou_scores"].flatten(0, 1)).abs().max() < 1e-4
    if kind == "sam2":
        assert (expected.object_score - found["object_score_logits"].flatten()).abs().max() < 1e-3


@torch.no_grad()
def test_sam_takes_the_corners_of_a_box_as_points_and_a_label_of_padding_as_nothing(exported, seen):
    kind, model, folder = exported
    if kind == "sam2":
        pytest.skip("SAM 2's decoder takes boxes")
    features, named = seen
    points = torch.tensor([[10.0, 20.0], [90.0, 80.0], [1.0, 1.0]]).expand(2, 1, -1, -1)
    labels = torch.tensor([2, 3, -10]).expand(2, 1, -1)
    given = {**named, "input_points": points, "input_labels": labels}
    found = run_onnx(folder / "onnx" / "prompt_encoder_mask_decoder.onnx", given)["pred_masks"]
    box = Prompts(points[:, 0, :2], torch.tensor([[PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]] * 2))
    expected = model.predict(features, box, torch.arange(2), multimask=True).logits
    assert (expected - found[:, 0]).abs().max() < 2e-3


@pytest.mark.slow
def test_the_file_names_say_the_precision(tmp_path):
    export_onnx(build(CONFIG), tmp_path, "fp16", "transformersjs")
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {"vision_encoder_fp16.onnx", "prompt_encoder_mask_decoder_fp16.onnx"}


def test_mobile_sam_is_a_sam_there():
    files = transformersjs_files(build_model("mobile_sam", 64))
    assert files["config.json"]["model_type"] == "sam"
    assert files["preprocessor_config.json"]["pad_size"] == {"height": 64, "width": 64}
