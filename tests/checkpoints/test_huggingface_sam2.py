"""A SAM 2 saved for ``transformers`` opens as ``Sam2VideoModel``, and its image part as ``Sam2Model``."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from transformers import Sam2Config, Sam2Model, Sam2Processor, Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor

from sam_train.checkpoints import load_checkpoint, save_checkpoint
from sam_train.checkpoints.huggingface import config_differences, huggingface_names, layout_of, to_huggingface
from sam_train.errors import InputError
from sam_train.models import PRESETS, build_model
from sam_train.structures import Prompts
from tests.checkpoints.tiny import SAM2_CONFIG, at_size, build, randomize, same_weights
from tests.parity.preprocess import preprocess_image

VERSIONS = pytest.mark.parametrize("config", [SAM2_CONFIG, replace(SAM2_CONFIG, version="2.0")], ids=["2.1", "2.0"])
IMAGES_ONLY = replace(SAM2_CONFIG, version=None)
COPY = "prompt_encoder.shared_embedding.positional_embedding"


def without_memory(config=SAM2_CONFIG, seed=0):
    model = build(config, seed)
    for name, _ in model.unused_shapes:
        model.state_dict()[name].zero_()
    return model


def names_in(folder) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset.startswith("sam2")])
def test_transformers_builds_models_of_these_names_and_shapes_from_our_configs(preset):
    with torch.device("meta"):
        ours = build_model(preset)
        layout, unused = layout_of(ours), dict(ours.unused_shapes)
        video = Sam2VideoModel(Sam2VideoConfig(**layout.config)).state_dict()
        image = Sam2Model(Sam2Config(**layout.image_config)).state_dict()
    state = ours.state_dict()
    needed = {name: tensor for name, tensor in state.items() if name not in unused}
    for own, theirs in ((state, video), (needed, image)):
        converted = {
            name: tensor.shape for name, tensor in to_huggingface(own, layout.renames, stores_copies=True).items()
        }
        assert converted == {name: tensor.shape for name, tensor in theirs.items()}


@VERSIONS
@pytest.mark.parametrize("image_size", [64, 128])
@pytest.mark.parametrize("multimask", [True, False])
@torch.no_grad()
def test_both_models_of_transformers_compute_the_same_from_our_folder(config, image_size, multimask, tmp_path):
    ours = build(at_size(image_size, config))
    save_checkpoint(ours, tmp_path, "huggingface")
    image, info = Sam2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    video, info = Sam2VideoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, image_size, image_size, generator=generator)
    boxes = torch.rand(3, 4, generator=generator) * image_size
    prediction = ours.predict(ours.encode_image(images), Prompts.from_boxes(boxes), torch.zeros(3).long(), multimask)
    expected = image(pixel_values=images, input_boxes=boxes[None], multimask_output=multimask)
    for masks, iou in ((expected.pred_masks, expected.iou_scores), decoded(video, images, boxes, multimask)):
        assert masks.std() > 0.1
        torch.testing.assert_close(prediction.logits, masks[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(prediction.iou, iou[0], atol=1e-5, rtol=1e-5)


def decoded(video, images, boxes, multimask) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks and IoU of one image from the parts of a video model, which has no forward for images."""
    *finer, embedding = video.get_image_embeddings(images)
    sparse, dense = video.prompt_encoder(None, None, boxes[None], None)
    position = video.get_image_wide_positional_embeddings()
    return video.mask_decoder(embedding, position, sparse, dense, multimask, finer)[:2]


@VERSIONS
def test_memory_weights_have_the_names_of_transformers(config, tmp_path):
    ours = build(config)
    save_checkpoint(ours, tmp_path, "huggingface")
    theirs = Sam2VideoModel.from_pretrained(tmp_path).state_dict()
    for name, _ in ours.unused_shapes:
        (expected,) = huggingface_names(name, layout_of(ours).renames)
        assert torch.equal(ours.state_dict()[name], theirs[expected])


@VERSIONS
def test_weights_trained_by_transformers_are_loaded_and_saved_again_unchanged(config, tmp_path):
    model = build(config)
    theirs = Sam2VideoModel(Sam2VideoConfig(**layout_of(model).config))
    randomize(theirs, seed=3)
    theirs.state_dict()[COPY].copy_(theirs.shared_image_embedding.positional_embedding)
    theirs.save_pretrained(tmp_path / "theirs")
    load_checkpoint(model, tmp_path / "theirs")
    save_checkpoint(model, tmp_path / "ours", "huggingface")
    with (
        safe_open(tmp_path / "ours" / "model.safetensors", "pt") as a,
        safe_open(tmp_path / "theirs" / "model.safetensors", "pt") as b,
    ):
        assert set(a.keys()) == set(b.keys())
        assert all(torch.equal(a.get_tensor(name), b.get_tensor(name)) for name in a.keys())  # noqa: SIM118 no dict
    loaded = Sam2VideoConfig.from_pretrained(tmp_path / "ours").to_dict()
    assert loaded == Sam2VideoConfig.from_pretrained(tmp_path / "theirs").to_dict()


def test_an_image_model_without_memory_is_loaded_and_saved_as_one(tmp_path):
    """The model's former memory weights are zeroed: they belonged to other weights."""
    saved, loaded = without_memory(), build(seed=1, config=SAM2_CONFIG)
    theirs = Sam2Model(Sam2Config(**layout_of(saved).image_config))
    randomize(theirs, seed=3)
    theirs.state_dict()[COPY].copy_(theirs.shared_image_embedding.positional_embedding)
    theirs.save_pretrained(tmp_path / "theirs")
    load_checkpoint(loaded, tmp_path / "theirs")
    assert all(not loaded.state_dict()[name].any() for name, _ in loaded.unused_shapes)
    save_checkpoint(loaded, tmp_path / "ours", "huggingface")
    assert names_in(tmp_path / "ours") == names_in(tmp_path / "theirs")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == ["Sam2Model"]
    again = build(seed=2, config=SAM2_CONFIG)
    load_checkpoint(again, tmp_path / "ours")
    assert same_weights(again, loaded)


@pytest.mark.parametrize("multimask", [True, False])
@torch.no_grad()
def test_a_model_without_memory_is_an_image_model_in_transformers(multimask, tmp_path):
    ours = build(IMAGES_ONLY)
    save_checkpoint(ours, tmp_path, "huggingface")
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    }
    theirs, info = Sam2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    generator = torch.Generator().manual_seed(1)
    images, boxes = torch.randn(1, 3, 128, 128, generator=generator), 128 * torch.rand(3, 4, generator=generator)
    prediction = ours.predict(ours.encode_image(images), Prompts.from_boxes(boxes), torch.zeros(3).long(), multimask)
    expected = theirs(pixel_values=images, input_boxes=boxes[None], multimask_output=multimask)
    assert expected.pred_masks.std() > 0.1
    torch.testing.assert_close(prediction.logits, expected.pred_masks[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction.iou, expected.iou_scores[0], atol=1e-5, rtol=1e-5)
    loaded = build(IMAGES_ONLY, seed=1)
    load_checkpoint(loaded, tmp_path)
    assert same_weights(loaded, ours)


def test_an_incomplete_memory_is_refused(tmp_path):
    state = build(SAM2_CONFIG).state_dict()
    del state["no_obj_ptr"]
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"missing in the file \(1\):\n    no_obj_ptr"):
        load_checkpoint(build(SAM2_CONFIG), tmp_path / "odd.pth")


def test_a_folder_saved_at_one_input_size_loads_at_another(tmp_path):
    save_checkpoint(build(SAM2_CONFIG), tmp_path, "huggingface")
    other = build(at_size(64, SAM2_CONFIG), seed=1)
    load_checkpoint(other, tmp_path)
    assert same_weights(other, build(SAM2_CONFIG))


@pytest.mark.parametrize(
    "change",
    [{"window_sizes": (8, 4, 14, 2)}, {"global_blocks": (3,)}, {"num_heads": 2}],
    ids=lambda change: next(iter(change)),
)
def test_sizes_that_no_shape_shows_are_compared(change, tmp_path):
    other = replace(SAM2_CONFIG, encoder=replace(SAM2_CONFIG.encoder, **change))
    save_checkpoint(build(other), tmp_path, "huggingface")
    with pytest.raises(InputError, match=r"vision_config\.backbone_config\.\w+ is .* in config.json, .* in the model"):
        load_checkpoint(build(SAM2_CONFIG), tmp_path)


@pytest.mark.parametrize("processor", [Sam2Processor, Sam2VideoProcessor])
def test_the_saved_processor_prepares_images_and_boxes_as_the_model_was_trained(processor, tmp_path):
    model = build(at_size(64, SAM2_CONFIG))
    save_checkpoint(model, tmp_path, "huggingface")
    image = torch.randint(0, 256, (3, 90, 120), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    box = [10.0, 20.0, 60.0, 70.0]
    inputs = processor.from_pretrained(tmp_path)(
        image.permute(1, 2, 0).numpy(), input_boxes=[[box]], return_tensors="pt"
    )
    prepared = preprocess_image(image, model.preprocessing)
    # torchvision's 8-bit kernel rounds some pixels by one, which is 1 / (255 * 0.224) after normalization.
    torch.testing.assert_close(inputs["pixel_values"], prepared, atol=0.018, rtol=0)
    corners = model.preprocessing.scale_points(torch.tensor(box).view(2, 2), (90, 120))
    torch.testing.assert_close(inputs["input_boxes"].view(2, 2).float(), corners)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if "_hiera_" in preset])
def test_configs_written_by_the_conversion_script_of_transformers_fit(preset):
    """They give the heads of each stage and leave ``num_attention_heads``, which nothing reads, at its default."""
    with torch.device("meta"):
        ours = layout_of(build_model(preset)).config
    theirs = Sam2VideoConfig(**ours).to_dict()
    theirs["vision_config"]["backbone_config"]["num_attention_heads"] = 1
    assert config_differences(theirs, ours) == []
    theirs["vision_config"]["backbone_config"]["num_attention_heads_per_stage"] = [3, 6, 12, 24]
    assert config_differences(theirs, ours)
