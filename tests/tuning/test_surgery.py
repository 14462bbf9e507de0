"""Exactly the requested parameters train, and adapters change nothing before training."""

import pytest
import torch
from torch import nn

from sam_train.errors import InputError
from sam_train.models import build_model
from sam_train.structures import Prompts
from sam_train.tuning.lora import merged_state_dict
from sam_train.tuning.surgery import Tuning, frozen_parts, trained_table
from tests.models.clips import clicks, clip_features, follow, tracking_model

MODELS = ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"]
SIZE = 128


def predict(model: nn.Module) -> torch.Tensor:
    images = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    prompts = Prompts(torch.tensor([[[30.0, 40.0]]]), torch.tensor([[1]]))
    return model.decode(model.encode_image(images), prompts, torch.tensor([0]), True).logits


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, SIZE)


def part(name: str) -> str:
    return name.split(".")[0].removeprefix("sam_")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_gradients_reach_exactly_the_trainable_parameters(name, mode):
    model = build(name)
    encoding = {id(parameter) for parameter in model.encoding_parameters()}
    unused = dict(model.unused_shapes)
    Tuning(mode, rank=2).apply(model)
    predict(model).square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        if id(parameter) in encoding or part(parameter_name) == "image_encoder":
            expected = mode == "full" or (mode == "lora" and ".lora_" in parameter_name)
        else:
            expected = part(parameter_name) in ("mask_decoder", "prompt_encoder") or mode == "full"
        expected &= parameter_name not in unused
        assert parameter.requires_grad == expected, parameter_name
        if not expected or id(parameter) in encoding or ".lora_" in parameter_name:  # some prompt kinds are absent
            assert (parameter.grad is not None) == expected, parameter_name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("targets", ["attention", "linear"])
def test_adapters_start_at_zero_and_merge_into_the_weights(name, targets):
    model = build(name).eval()
    before = predict(model)
    names = list(model.state_dict())
    Tuning("lora", targets=targets, rank=2).apply(model)
    torch.testing.assert_close(predict(model), before)
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if ".lora_B" in parameter_name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02
    model.eval()
    adapted = predict(model)
    assert (adapted - before).abs().max() > 1e-3
    merged = build(name).eval()
    state = merged_state_dict(model)
    assert list(state) == names
    merged.load_state_dict(state)
    assert (predict(merged) - adapted).abs().max() < 1e-4
    assert torch.equal(predict(model), adapted)  # merging leaves the model itself unchanged


def test_a_target_that_matches_nothing_is_refused_with_the_available_layers():
    with pytest.raises(InputError, match=r"tuning\.targets='query'.*blocks\.\*\.attn\.qkv"):
        Tuning("lora", targets="query").apply(build("sam_nano"))


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match=r"tuning\.encoder"):
        Tuning("half")


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_frozen_batch_norms_keep_their_statistics(mode):
    model = build("mobile_sam")
    Tuning(mode, rank=2).apply(model)
    model.train()
    for module in frozen_parts(model):
        module.eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    predict(model)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert model.mask_decoder.training


@pytest.mark.parametrize(
    ("name", "parts", "total", "unused"),
    [
        ("sam_nano", 3, "5,657,600", None),
        ("mobile_sam", 3, "9,808,452", "321,640 weights"),
        ("sam2.1_hiera_tiny", 3, "31,440,721", "7,521,777 weights"),
    ],
)
def test_the_table_counts_parameters_and_mentions_unused_weights(name, parts, total, unused):
    model = build(name)
    Tuning("frozen").apply(model)
    table = trained_table(model)
    assert table.row_count == parts + 1
    assert list(table.columns[2].cells)[-1] == total
    assert unused in table.caption if unused else table.caption is None


@pytest.mark.parametrize(
    ("name", "targets", "matched"),
    [
        ("sam_nano", "attention", ["10 x LoRA on blocks.*.attn.qkv", "10 x LoRA on blocks.*.attn.proj"]),
        ("sam2.1_hiera_tiny", r".*\.qkv", ["12 x LoRA on trunk.blocks.*.attn.qkv"]),
    ],
)
def test_the_table_names_the_layers_that_were_matched(name, targets, matched):
    model = build(name)
    Tuning("lora", targets=targets).apply(model)
    table = trained_table(model)
    assert [cell.strip() for cell in table.columns[0].cells if "LoRA" in cell] == matched
    counts = [int(cell.replace(",", "")) for cell in table.columns[1].cells]
    assert sum(counts[1 : 1 + len(matched)]) == counts[0]


@pytest.mark.parametrize("options", [{"rank": 0}, {"dropout": 1.5}, {"targets": "["}])
def test_invalid_adapter_settings_are_refused(options):
    with pytest.raises(InputError, match="tuning"):
        Tuning("lora", **options).apply(build("sam_nano"))


@pytest.mark.parametrize("memory", ["lora", "full"])
def test_the_memory_alone_may_train(memory):
    model = build("sam2.1_hiera_tiny")
    Tuning("frozen", prompt_encoder=False, mask_decoder=False, memory=memory, rank=2).apply(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if memory == "full":
        assert trained == dict(model.memory_shapes).keys() - {"no_mem_pos_enc"}
    else:
        layers = model.memory_attention.attention_layers()
        assert len(trained) == 2 * len(layers) == 2 * 4 * 8
        assert all("memory_attention" in name and ".lora_" in name for name in trained)
    assert [*trained_table(model).columns[2].cells][-1] > "38,000,000"
    assert trained_table(model).caption is None


def test_adapters_of_the_memory_merge_into_its_weights():
    model = tracking_model()
    frames = clip_features(model, 3)
    Tuning("frozen", memory="lora", rank=2).apply(model)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    model.double()
    merged = tracking_model()
    assert list(merged_state_dict(model)) == list(merged.state_dict())
    merged.load_state_dict(merged_state_dict(model))
    with torch.no_grad():
        shown = [follow(some, frames, torch.tensor([0, 0]), clicks(2))[0][-1].logits for some in (model, merged)]
        plain = follow(tracking_model(), frames, torch.tensor([0, 0]), clicks(2))[0][-1].logits
    torch.testing.assert_close(*shown, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(shown[0], plain, atol=1e-2)


def test_a_memory_that_is_not_there_cannot_train():
    with pytest.raises(InputError, match=r"tuning\.memory=full: this model has no memory"):
        Tuning("frozen", memory="full").apply(build("sam_nano"))


def test_something_must_train():
    with pytest.raises(InputError, match="nothing trains"):
        Tuning("frozen", prompt_encoder=False, mask_decoder=False)
