"""Models are built by name or by config; impossible names and sizes are refused; importing them stays light."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sam_train.errors import InputError
from sam_train.models import PRESETS, build_model
from sam_train.models.sam.sam import Sam
from sam_train.models.sam.tiny_vit import TinyViTConfig
from sam_train.preprocessing import Preprocessing
from sam_train.structures import Prompts


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("sam_vitb", "sam_vit_b"), ("sam2.1_hiera_base", "sam2.1_hiera_base_plus"), ("mobilesam", "mobile_sam")],
)
def test_an_unknown_preset_is_refused_with_the_nearest_names(typed, meant):
    with pytest.raises(InputError, match=f"no model '{typed}'; nearest: .*{meant}.*; all: .*sam_vit_h"):
        build_model(typed)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("image_size", [0, -64, 8, 100, 1000])
def test_an_unsupported_input_size_is_refused_with_the_supported_multiples(preset, image_size):
    step = 32 if preset.startswith("sam2") else 16
    with pytest.raises(InputError, match=f"image_size={image_size}: {preset} takes multiples of {step}, such as 256"):
        build_model(preset, image_size)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"])
def test_the_smallest_size_works(preset):
    size = 32 if preset.startswith("sam2") else 16
    model = build_model(preset, size).eval()
    features = model.encode_image(torch.zeros(1, 3, size, size))
    prompts = Prompts.from_boxes(torch.tensor([[1.0, 2.0, 9.0, 8.0]]))
    prediction = model.decode(features, prompts, torch.tensor([0]), multimask=False)
    assert prediction.logits.shape == (1, 1, size // 4, size // 4)
    assert prediction.logits.isfinite().all()
    again = replace(prompts, masks=prediction.logits)
    assert model.decode(features, again, torch.tensor([0]), multimask=False).logits.isfinite().all()


@pytest.mark.parametrize("preset", ["sam_nano", "sam2_nano"])
@torch.no_grad()
def test_half_precision_works_at_another_size_too(preset):
    torch.manual_seed(0)
    model = build_model(preset, 64).eval()
    images, prompts = torch.randn(1, 3, 64, 64), Prompts.from_boxes(torch.tensor([[1.0, 2.0, 9.0, 8.0]]))
    whole = model.decode(model.encode_image(images), prompts, torch.tensor([0]), multimask=False)
    model.bfloat16()
    half = model.decode(model.encode_image(images.bfloat16()), prompts, torch.tensor([0]), multimask=False)
    assert half.logits.dtype == torch.bfloat16
    assert (half.logits.float() - whole.logits).abs().max() < 0.05 * whole.logits.abs().max()


def test_images_of_another_size_are_refused():
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"images of \(128, 128\), this model takes \(256, 256\)"),
    ):
        build_model("sam_nano").encode_image(torch.zeros(1, 3, 128, 128))


def test_integer_points_are_scaled_as_floats():
    points = torch.tensor([[100, 200]])
    scaled = Preprocessing(1024).scale_points(points, (2048, 1500))
    assert torch.equal(scaled, Preprocessing(1024).scale_points(points.float(), (2048, 1500)))
    assert torch.equal(scaled, torch.tensor([[50.0, 100.0]]))


def test_litemedsam_is_a_tiny_vit_without_strides():
    """It has 64 x 64 cells for 256 pixels, masks as fine as the input, and no classifier."""
    config = replace(
        PRESETS["mobile_sam"],
        encoder=TinyViTConfig(patch_size=1, num_classes=0),
        preprocessing=Preprocessing(image_size=256),
    )
    with torch.device("meta"):
        model = Sam(config)
        features = model.encode_image(torch.zeros(1, 3, 256, 256))
        prompts = Prompts.from_boxes(torch.zeros(2, 4))
        prediction = model.decode(features, prompts, torch.zeros(2, dtype=torch.long), multimask=False)
    assert features.embedding.shape == (1, 256, 64, 64)
    assert prediction.logits.shape == (2, 1, 256, 256)
    patches = model.image_encoder.patch_embed.seq
    assert (patches[0].c.weight.shape, patches[2].c.weight.shape) == ((32, 3, 1, 1), (64, 32, 1, 1))
    assert not any("head" in name and "image_encoder" in name for name in model.state_dict())


def test_importing_the_models_imports_torch_and_no_other_framework():
    code = "import sys, sam_train.models; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in found
    heavy = {"lightning", "hydra", "transformers", "peft", "monai", "datasets", "wandb", "pycocotools", "torchvision"}
    assert not heavy & set(found)
