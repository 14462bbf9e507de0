"""Programs of PyTorch find what the model finds, for any number of images, objects and points."""

from zipfile import ZipFile

import pytest
import torch

from sam_train.errors import InputError
from sam_train.export.torch_package import export_torch
from sam_train.export.transformersjs import transformers_layout
from sam_train.structures import Prompts
from tests.checkpoints.tiny import CONFIG, SAM2_CONFIG, build


def assert_same_masks(model, encoder, decoder, num_images, num_objects, num_points):
    generator = torch.Generator().manual_seed(num_points)
    images = torch.randn(num_images, 3, 128, 128, generator=generator)
    points = torch.rand(num_images, num_objects, num_points, 2, generator=generator) * 128
    labels = torch.randint(0, 2, (num_images, num_objects, num_points), generator=generator)
    boxes = [] if model.config == CONFIG else [torch.zeros(num_images, 0, 4)]
    iou, logits, *_ = decoder(points, labels, *boxes, *encoder(images))
    on_image = torch.arange(num_images).repeat_interleave(num_objects)
    said = Prompts(points.flatten(0, 1), labels.flatten(0, 1))
    expected = model.predict(model.encode_image(images), said, on_image, multimask=True)
    torch.testing.assert_close(logits.flatten(0, 1), expected.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(iou.flatten(0, 1), expected.iou, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [CONFIG, SAM2_CONFIG], ids=["SAM", "SAM 2"])
@torch.no_grad()
def test_programs_of_torch_export_have_the_models_masks(config, tmp_path):
    model = build(config)
    agreement = export_torch(model, tmp_path)
    assert agreement.iou == 1
    assert agreement.difference < 1e-3
    files = [tmp_path / f"{name}.pt2" for name in ("encoder", "decoder")]
    for file in files:
        with ZipFile(file) as content:
            assert not [name for name in content.namelist() if b"transformersjs.py" in content.read(name)]
    programs = [torch.export.load(file) for file in files]
    assert not [name for name in programs[1].state_dict if "image_encoder" in name]
    encoder, decoder = (program.module() for program in programs)
    for sizes in ((1, 1, 1), (2, 3, 12)):
        assert_same_masks(model, encoder, decoder, *sizes)


@pytest.mark.parametrize("config", [CONFIG, SAM2_CONFIG], ids=["SAM", "SAM 2"])
@torch.no_grad()
def test_compiled_programs_are_given_the_memory_layout_of_their_examples(config):
    layout = transformers_layout(build(config))
    seen = layout.encoder.module(*layout.encoder.examples)
    for tensor in (*layout.encoder.examples, *layout.decoder.examples, *seen):
        assert tensor.is_contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, SAM2_CONFIG], ids=["SAM", "SAM 2"])
@torch.no_grad()
def test_packages_of_aotinductor_have_the_models_masks(config, tmp_path):
    model = build(config)
    agreement = export_torch(model, tmp_path, compiled=True)
    assert agreement.iou > 0.999
    encoder, decoder = (
        torch._inductor.aoti_load_package(str(tmp_path / f"{name}.pt2")) for name in ("encoder", "decoder")
    )
    for sizes in ((1, 1, 1), (2, 3, 12)):
        assert_same_masks(model, encoder, decoder, *sizes)


def test_a_package_needs_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"^format=aoti needs a C\+\+ compiler"):
        export_torch(build(), tmp_path / "out", compiled=True)
    assert not (tmp_path / "out").exists()
