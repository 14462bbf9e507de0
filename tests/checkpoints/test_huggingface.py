"""A SAM saved for ``transformers`` equals what ``transformers`` itself saves, and computes the same."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import SamConfig, SamModel, SamProcessor

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.checkpoints.huggingface import from_huggingface, huggingface_names, layout_of, to_huggingface
from sam_train.models import build_model
from sam_train.structures import Prompts
from tests.checkpoints.tiny import CONFIG, at_size, build, randomize, same_weights
from tests.parity.preprocess import preprocess_image
from tests.parity.reference import ROOT, needs_reference

# Entries of transformers about itself, about training and derived from other entries.
TRANSFORMERS_OWN = {"transformers_version", "initializer_range", "tie_word_embeddings", "image_embedding_size", "scale"}


@needs_reference
@pytest.mark.parametrize("preset", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_every_official_name_is_converted_as_in_the_fixtures(preset):
    expected = json.loads((ROOT / preset / "hf_key_map.json").read_text())["map"]
    with torch.device("meta"):
        renames = layout_of(build_model(preset)).renames
    for name, theirs in expected.items():
        found = huggingface_names(name, renames)
        assert found == (tuple(theirs["to"]) if isinstance(theirs, dict) else (theirs,))


@pytest.mark.parametrize("preset", ["sam_nano", "sam_vit_b", "sam_vit_l", "sam_vit_h", "slimsam_77_uniform"])
def test_transformers_builds_a_model_of_these_names_and_shapes_from_our_config(preset):
    with torch.device("meta"):
        ours = build_model(preset)
        theirs = SamModel(SamConfig(**layout_of(ours).config)).state_dict()
    shared = theirs.pop("prompt_encoder.shared_embedding.positional_embedding")
    converted = to_huggingface(ours.state_dict(), layout_of(ours).renames, stores_copies=False)
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        n: tensor.shape for n, tensor in theirs.items()
    }
    assert shared.shape == theirs["shared_image_embedding.positional_embedding"].shape


def saved_by_both(model, tmp_path):
    save_checkpoint(model, tmp_path / "ours", "huggingface")
    theirs, info = SamModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    theirs.save_pretrained(tmp_path / "theirs")
    return theirs.eval(), tmp_path / "ours", tmp_path / "theirs"


@pytest.mark.parametrize("config", [CONFIG, at_size(64)], ids=["native", "resized"])
def test_our_folder_equals_the_folder_that_transformers_writes(config, tmp_path):
    _, ours, theirs = saved_by_both(build(config), tmp_path)
    with safe_open(ours / "model.safetensors", "pt") as a, safe_open(theirs / "model.safetensors", "pt") as b:
        assert set(a.keys()) == set(b.keys())
        assert a.metadata() == b.metadata()
        assert all(torch.equal(a.get_tensor(name), b.get_tensor(name)) for name in a.keys())  # noqa: SIM118 no dict

    def without_own(config):
        return {
            key: without_own(value) if isinstance(value, dict) else value
            for key, value in config.items()
            if key not in {*TRANSFORMERS_OWN, "dtype"}
        }

    written = [json.loads((folder / "config.json").read_text()) for folder in (ours, theirs)]
    assert without_own(written[0]) == without_own(written[1])
    assert written[0]["dtype"] == written[1]["dtype"] == "float32"


def test_a_folder_written_by_transformers_is_read(tmp_path):
    model = build()
    _, _, theirs = saved_by_both(model, tmp_path)
    loaded = build(seed=1)
    load_checkpoint(loaded, theirs)
    assert same_weights(loaded, model)


@pytest.mark.parametrize("image_size", [64, 128, 160])
@pytest.mark.parametrize("multimask", [True, False])
@torch.no_grad()
def test_transformers_computes_the_same_from_our_folder_at_every_input_size(image_size, multimask, tmp_path):
    ours = build(at_size(image_size))
    theirs, _, _ = saved_by_both(ours, tmp_path)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, image_size, image_size, generator=generator)
    boxes = torch.rand(4, 4, generator=generator) * image_size
    prediction = ours.decode(
        ours.encode_image(images), Prompts.from_boxes(boxes), torch.tensor([0, 0, 1, 1]), multimask
    )
    expected = theirs(pixel_values=images, input_boxes=boxes.view(2, 2, 4), multimask_output=multimask)
    torch.testing.assert_close(prediction.logits, expected.pred_masks.flatten(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.iou, expected.iou_scores.flatten(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(90, 120), (300, 200)])
def test_the_saved_processor_prepares_images_and_boxes_as_the_model_was_trained(size, tmp_path):
    model = build(at_size(64))
    save_checkpoint(model, tmp_path, "huggingface")
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    box = [10.0, 20.0, 60.0, 70.0]
    inputs = SamProcessor.from_pretrained(tmp_path)(
        image.permute(1, 2, 0).numpy(), input_boxes=[[box]], return_tensors="pt"
    )
    prepared = preprocess_image(image, model.preprocessing)
    # torchvision's 8-bit kernel rounds some pixels by one, which is 1 / (255 * 0.224) after normalization.
    torch.testing.assert_close(inputs["pixel_values"], prepared, atol=0.018, rtol=0)
    corners = model.preprocessing.scale_points(torch.tensor(box).view(2, 2), size)
    torch.testing.assert_close(inputs["input_boxes"].view(2, 2).float(), corners)


@pytest.mark.parametrize("stores_copies", [False, True])
def test_rows_of_a_stacked_table_are_converted_both_ways(stores_copies):
    renames = {"points.{}.weight": "table.weight[{}]", "pe.matrix": ("one.matrix", "two.matrix")}
    state = {f"points.{row}.weight": torch.full((1, 3), float(row)) for row in (1, 0, 2)}
    state["pe.matrix"] = torch.ones(2)
    converted = to_huggingface(state, renames, stores_copies)
    assert converted["table.weight"].tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert ("two.matrix" in converted) == stores_copies
    for copy in ({}, {"two.matrix": torch.ones(2)}):
        back, unclaimed = from_huggingface(converted | copy, state, renames)
        assert not unclaimed
        assert all(torch.equal(back[name], state[name]) for name in state)


def test_weights_trained_by_transformers_are_loaded_under_the_right_names(tmp_path):
    theirs = SamModel(SamConfig(**layout_of(build()).config))
    randomize(theirs, seed=3)
    theirs.save_pretrained(tmp_path)
    ours = build()
    load_checkpoint(ours, tmp_path)
    tensors = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, tensors[huggingface_names(name, layout_of(ours).renames)[0]])
