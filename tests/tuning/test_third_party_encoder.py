"""An encoder of a user (tests/models/pooling_encoder.py) is tuned and saved as any other."""

import pytest
import torch

from sam_train.checkpoints import load_checkpoint, save_adapters, save_checkpoint
from sam_train.errors import InputError
from sam_train.models import presets
from sam_train.models.staged_encoder import EncoderConfig, StagedEncoder
from sam_train.structures import Prompts
from sam_train.tuning.lora import adapted_layers, merged_state_dict
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning
from tests.models.pooling_encoder import CONFIG, PoolingEncoder

DECAYING = Optimization(lr=1e-2, weight_decay=0.1, layer_decay=0.5)


def build(mode="full", **tuning):
    torch.manual_seed(0)
    model = CONFIG.build()
    Tuning(mode, rank=2, **tuning).apply(model)
    return model


def predict(model):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = Prompts.from_boxes(torch.tensor([[4.0, 4.0, 40.0, 50.0], [10.0, 20.0, 60.0, 60.0]]))
    return model.decode(model.encode_image(images), prompts, torch.tensor([0, 0]), multimask=True)


def train_one_step(model):
    optimizer = DECAYING.optimizer(model)
    prediction = predict(model)
    (prediction.logits.square().mean() + prediction.iou.square().mean()).backward()
    optimizer.step()
    return optimizer


def test_the_encoder_is_built_by_the_name_of_its_preset(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", {"pooling": CONFIG})
    assert isinstance(CONFIG.encoder, EncoderConfig)
    assert isinstance(presets.build_model("pooling", 32).image_encoder, PoolingEncoder)
    with pytest.raises(InputError, match="pooling takes multiples of 16"):
        presets.build_model("pooling", 40)


def test_layer_decay_follows_the_declared_groups():
    model = build()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in train_one_step(model).param_groups
        for parameter in group["params"]
    }
    assert rates["image_encoder.patches.weight"] == (1e-2 / 16, 0)
    assert [rates[f"image_encoder.mixers.{index}.look.weight"] for index in range(3)] == [
        (1e-2 / 8, 0.1),
        (1e-2 / 4, 0.1),
        (1e-2 / 2, 0.1),
    ]
    for name in ("image_encoder.neck.0.weight", "mask_decoder.iou_prediction_head.layers.0.weight"):
        assert rates[name] == (1e-2, 0.1)


def test_adapters_are_put_on_the_declared_attention_layers_and_learn():
    model = build("lora")
    assert list(adapted_layers(model)) == [f"image_encoder.mixers.{index}.look" for index in range(3)]
    before = {name: value.clone() for name, value in merged_state_dict(model).items()}
    train_one_step(model)
    after = merged_state_dict(model)
    assert not torch.equal(after["mask_decoder.iou_token.weight"], before["mask_decoder.iou_token.weight"])
    assert not torch.equal(after["image_encoder.mixers.0.look.weight"], before["image_encoder.mixers.0.look.weight"])
    assert torch.equal(after["image_encoder.mixers.0.think.weight"], before["image_encoder.mixers.0.think.weight"])


@torch.no_grad()
def test_tuned_weights_are_saved_and_loaded_in_the_official_format(tmp_path):
    model = build("lora")
    with torch.enable_grad():
        train_one_step(model)
    save_checkpoint(model, tmp_path / "tuned.pth", state_dict=merged_state_dict(model))
    loaded = CONFIG.build()
    load_checkpoint(loaded, tmp_path / "tuned.pth")
    torch.testing.assert_close(predict(loaded).logits, predict(model).logits, atol=1e-5, rtol=1e-5)


def test_hugging_face_export_is_refused_because_no_layout_is_declared(tmp_path):
    with pytest.raises(InputError, match="no Sam with the image encoder PoolingEncoder; use format='meta'"):
        save_checkpoint(CONFIG.build(), tmp_path / "out", "huggingface")
    with pytest.raises(InputError, match="transformers has no such model"):
        save_adapters(build("lora"), tmp_path / "out")


def test_layer_decay_is_refused_for_an_encoder_without_layer_groups(monkeypatch):
    monkeypatch.setattr(PoolingEncoder, "layer_groups", StagedEncoder.layer_groups)
    with pytest.raises(
        InputError, match=r"optim\.layer_decay=0\.5: the image encoder PoolingEncoder declares no layer"
    ):
        DECAYING.optimizer(build())
    assert Optimization().optimizer(build()).param_groups


def test_attention_targets_are_refused_for_an_encoder_without_attention(monkeypatch):
    monkeypatch.setattr(PoolingEncoder, "attention_layers", lambda self: [])
    with pytest.raises(InputError, match=r"tuning\.targets='attention' matches no linear layer.*mixers\.\*\.look"):
        build("lora")
    assert len(adapted_layers(build("lora", targets=r".*\.think"))) == 3
