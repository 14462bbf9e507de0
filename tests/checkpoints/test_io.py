"""Weights are saved and loaded unchanged; weights that do not fit are refused with a report."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from sam_train.checkpoints import io, load_checkpoint, save_checkpoint
from sam_train.checkpoints.huggingface import from_huggingface, layout_of, to_huggingface
from sam_train.errors import InputError
from sam_train.models import PRESETS, build_model
from tests.checkpoints.tiny import CONFIG, at_size, build, same_weights

FORMATS = ("meta", "huggingface")


@cache
def meta_model(preset):
    with torch.device("meta"):
        return build_model(preset)


def filled(preset, seed):
    """A preset whose tensors all have different values; random initialization would take seconds."""
    with torch.device("meta"):
        model = build_model(preset).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        tensor.copy_(100 * torch.rand(tensor.shape, generator=generator))
    return model


def is_heavy(preset):
    return sum(tensor.numel() for tensor in meta_model(preset).state_dict().values()) > 30e6


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("preset", [pytest.param(name, marks=[pytest.mark.slow] * is_heavy(name)) for name in PRESETS])
def test_save_then_load_is_identity(preset, format_, tmp_path):
    saved, loaded = filled(preset, 0), filled(preset, 1)
    if format_ == "huggingface" and layout_of(saved) is None:
        with pytest.raises(InputError, match="format='meta'"):
            save_checkpoint(saved, tmp_path / "out", format_)
        return
    save_checkpoint(saved, tmp_path / "out", format_)
    load_checkpoint(loaded, tmp_path / "out")
    assert same_weights(saved, loaded)


@pytest.mark.parametrize("preset", [name for name in PRESETS if layout_of(meta_model(name))])
def test_renaming_both_ways_loses_no_name_and_no_shape(preset):
    model = meta_model(preset)
    state, layout = model.state_dict(), layout_of(model)
    converted = to_huggingface(state, layout.renames, layout.stores_copies)
    back, unclaimed = from_huggingface(converted, state, layout.renames)
    assert not unclaimed
    assert {name: tensor.shape for name, tensor in back.items()} == {n: tensor.shape for n, tensor in state.items()}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("in_file", "in_model"), [(torch.bfloat16, torch.float32), (torch.half, torch.float32), (torch.float32, torch.half)]
)
@pytest.mark.parametrize("config", [CONFIG, at_size(64)], ids=["native", "resized"])
def test_a_loaded_model_keeps_its_dtype(config, in_file, in_model, format_, tmp_path):
    saved, loaded = build(config).to(in_file), build(config, seed=1).to(in_model)
    save_checkpoint(saved, tmp_path / "out", format_)
    load_checkpoint(loaded, tmp_path / "out")
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {in_model}
    save_checkpoint(loaded, tmp_path / "again", format_)
    load_checkpoint(saved, tmp_path / "again")
    assert same_weights(loaded, saved.to(in_model))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("image_size", [64, 160])
def test_saving_and_loading_at_another_input_size_changes_no_output(image_size, format_, tmp_path):
    saved, loaded = build(at_size(image_size)), build(at_size(image_size), seed=1)
    images = torch.randn(1, 3, image_size, image_size)
    save_checkpoint(saved, tmp_path / "out", format_)
    load_checkpoint(loaded, tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(loaded.encode_image(images).embedding, saved.encode_image(images).embedding)
    save_checkpoint(loaded, tmp_path / "again", format_)
    load_checkpoint(build(at_size(image_size), seed=2), tmp_path / "again")


def test_position_tables_of_the_preset_s_size_load_after_resized_ones(tmp_path):
    model = build(at_size(64))
    save_checkpoint(model, tmp_path / "resized", "huggingface")
    save_checkpoint(build(seed=1), tmp_path / "native.pth")
    load_checkpoint(model, tmp_path / "resized")
    load_checkpoint(model, tmp_path / "native.pth")
    assert same_weights(model, build(at_size(64), seed=1))


def test_position_tables_of_another_size_are_refused_with_the_size_to_use(tmp_path):
    save_checkpoint(build(at_size(64)), tmp_path / "out", "huggingface")
    for config in (CONFIG, at_size(160)):
        with pytest.raises(InputError, match=r"use model\.image_size=64"):
            load_checkpoint(build(config, seed=1), tmp_path / "out")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_checkpoint_that_does_not_fit_changes_nothing(format_, tmp_path):
    model, before = build(), build()
    other = build(replace(CONFIG, decoder_mlp_dim=64), seed=1)  # most tensors fit, the last ones do not
    save_checkpoint(other, tmp_path / "out", format_)
    with pytest.raises(InputError, match="of another shape"):
        load_checkpoint(model, tmp_path / "out")
    assert same_weights(model, before)


def test_the_report_names_what_is_missing_unexpected_and_misshaped(tmp_path):
    state = build().state_dict()
    del state["mask_decoder.iou_prediction_head.layers.0.bias"]
    for block in range(2, 4):
        del state[f"image_encoder.blocks.{block}.norm1.weight"]
        del state[f"image_encoder.blocks.{block}.norm1.bias"]
    state["image_encoder.adapter.weight"] = torch.zeros(1)
    state["image_encoder.neck.1.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError) as caught:
        load_checkpoint(build(), tmp_path / "odd.pth")
    report = str(caught.value)
    assert str(tmp_path / "odd.pth") in report
    assert "missing in the file (5)" in report
    assert "image_encoder.blocks.2-3.* (4 tensors)" in report
    assert "mask_decoder.iou_prediction_head.layers.0.bias" in report
    assert "image_encoder.adapter.weight" in report
    assert "image_encoder.neck.1.bias: (7,) in the file, (32,) in the model" in report


def released_file(preset, naming, without=(), folder=None):
    """A file with the names and shapes of a released checkpoint."""
    model = meta_model(preset)
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in model.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if name not in without}
    if naming == "Hugging Face":
        layout = layout_of(model)
        state = to_huggingface(state, layout.renames, layout.stores_copies)
    torch.save(state, folder / "other.pth")
    return folder / "other.pth"


CONFUSED = [
    ("sam_vit_l", "sam_nano"),
    ("sam_vit_b", "sam2.1_hiera_tiny"),
    ("sam_vit_b", "mobile_sam"),
    ("slimsam_50_uniform", "slimsam_77_uniform"),
    ("sam2.1_hiera_small", "sam_nano"),
    ("sam2_nano", "sam_nano"),
    ("sam2_nano", "sam2.1_hiera_tiny"),
    ("sam2_hiera_tiny", "sam2_hiera_large"),
    ("sam2_hiera_base_plus", "sam2.1_hiera_base_plus"),
    ("sam2.1_hiera_tiny", "sam2_hiera_tiny"),
]


@pytest.mark.parametrize(
    ("in_file", "in_model", "naming"),
    [
        *[(*pair, naming) for pair in CONFUSED for naming in ("Meta", "Hugging Face")],
        ("mobile_sam", "sam_vit_b", "Meta"),
    ],
)
def test_a_checkpoint_of_another_preset_is_recognized(in_file, in_model, naming, tmp_path):
    file = released_file(in_file, naming, folder=tmp_path)
    with pytest.raises(InputError) as caught:
        load_checkpoint(meta_model(in_model), file)
    expected = f"It is {in_file} in {naming}'s naming; the model is {in_model}: use model={in_file}."
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) < 40


def test_an_image_model_without_memory_may_belong_to_two_presets(tmp_path):
    memory = dict(meta_model("sam2.1_hiera_tiny").unused_shapes)
    file = released_file("sam2.1_hiera_tiny", "Hugging Face", memory, tmp_path)
    with pytest.raises(InputError) as caught:
        load_checkpoint(meta_model("sam2.1_hiera_large"), file)
    either = "model=sam2_hiera_tiny or model=sam2.1_hiera_tiny."
    assert f"the model is sam2.1_hiera_large: use {either}" in str(caught.value)


def test_saving_mobile_sam_for_transformers_is_refused(tmp_path):
    with pytest.raises(InputError, match="transformers has no Sam with the image encoder TinyViT; use format='meta'"):
        save_checkpoint(filled("mobile_sam", 0), tmp_path / "out", "huggingface")


def test_a_mobile_sam_without_its_classifier_loads(tmp_path):
    saved, loaded = filled("mobile_sam", 0), filled("mobile_sam", 1)
    unused = dict(saved.unused_shapes)
    torch.save({name: tensor for name, tensor in saved.state_dict().items() if name not in unused}, tmp_path / "a.pth")
    load_checkpoint(loaded, tmp_path / "a.pth")
    for name in unused:
        saved.state_dict()[name].zero_()
    assert same_weights(loaded, saved)


def test_a_checkpoint_similar_to_a_preset_is_described_as_such(tmp_path):
    """Fine-tuning codes save such files when they add layers of their own."""
    save_checkpoint(build_model("sam_nano"), tmp_path / "plain.pth")
    state = torch.load(tmp_path / "plain.pth")
    state |= {f"image_encoder.blocks.{block}.adapter.weight": torch.zeros(3) for block in range(10)}
    torch.save(state, tmp_path / "adapted.pth")
    with pytest.raises(InputError, match=r"It looks most like sam_nano in Meta's naming\.") as caught:
        load_checkpoint(build_model("sam_nano"), tmp_path / "adapted.pth")
    assert "image_encoder.blocks.0-9.adapter.weight (10 tensors)" in str(caught.value)


def test_numbers_of_heads_are_compared_although_no_shape_shows_them(tmp_path):
    save_checkpoint(build(replace(CONFIG, decoder_heads=2)), tmp_path / "out", "huggingface")
    with pytest.raises(InputError, match=r"mask_decoder_config\.num_attention_heads is 2 in config.json, 4"):
        load_checkpoint(build(), tmp_path / "out")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_failed_write_leaves_the_old_checkpoint_and_no_other_files(format_, tmp_path, monkeypatch):
    def half(state, file, **_):
        file.write_bytes(b"half") if isinstance(file, Path) else file.write(b"half")
        raise OSError("no space left on device")

    old, model = build(), build(seed=1)
    save_checkpoint(old, tmp_path / "out", format_)
    monkeypatch.setattr(torch, "save", half)
    monkeypatch.setattr(io, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(build(seed=2), tmp_path / "out", format_)
    load_checkpoint(model, tmp_path / "out")
    assert same_weights(model, old)
    assert not list(tmp_path.rglob(".*"))


def test_unmerged_adapters_are_refused_and_merged_weights_are_written(tmp_path):
    plain, model = build(), build()
    model.mask_decoder.iou_token.lora_A = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"iou_token.lora_A.*merged"):
        save_checkpoint(model, tmp_path / "out")
    merged = {name: 2 * tensor for name, tensor in plain.state_dict().items()}
    save_checkpoint(model, tmp_path / "out", state_dict=merged)
    load_checkpoint(plain, tmp_path / "out")
    assert all(torch.equal(tensor, merged[name]) for name, tensor in plain.state_dict().items())


def test_an_unknown_format_or_an_unsuitable_path_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of meta, huggingface"):
        save_checkpoint(build(), tmp_path / "out", "onnx")
    with pytest.raises(InputError, match="is a folder"):
        save_checkpoint(build(), tmp_path, "meta")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        save_checkpoint(build(), tmp_path / "file", "huggingface")


def test_a_checkpoint_of_a_run_is_refused_with_the_export_command(tmp_path):
    torch.save({"state_dict": {}, "sam_train": {}}, tmp_path / "best.ckpt")
    with pytest.raises(InputError, match=r"a run's checkpoint.* sam-export checkpoint=.*best\.ckpt"):
        load_checkpoint(build(), tmp_path / "best.ckpt")
