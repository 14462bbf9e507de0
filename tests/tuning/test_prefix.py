"""A frozen prefix of the encoder costs only its forward pass; activation checkpointing changes no gradient."""

import pytest
import torch

from sam_train.errors import InputError
from sam_train.models import ImageModel
from sam_train.models.encoder_block import encoder_blocks
from sam_train.structures import EncoderState
from sam_train.tuning.surgery import Tuning, trained_table
from tests.models.zoo import images, light_model, mixed_prompts

MODELS = ["sam_nano", "mobile_sam", "sam2.1_hiera_tiny"]
OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])
COUNT = 3


def tuned(preset: str, mode: str, **options: object) -> ImageModel:
    """The tuned model in double precision and evaluation mode, with adapters that are not zero."""
    torch.manual_seed(0)
    model = light_model(preset)
    Tuning(mode, targets="linear", rank=2, **options).apply(model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, dtype=torch.double) * 0.02
    return model


def gradients(model: ImageModel) -> dict[str, torch.Tensor]:
    prediction = model.decode(model.encode_image(images(COUNT)), mixed_prompts(), OBJECT_IMAGE, multimask=True)
    (prediction.logits.square().mean() + prediction.iou.square().mean()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("preset", MODELS)
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_blocks_before_the_last_blocks_keep_no_activations(preset, mode):
    model = tuned(preset, mode, last_blocks=1)
    kept: list[torch.Size] = []
    kept_before: list[int] = []
    encoder_blocks(model.image_encoder)[-1].register_forward_pre_hook(lambda *_: kept_before.append(len(kept)))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        model.encode_image(images(1))
    assert kept_before == [0]
    assert kept


@pytest.mark.parametrize("preset", MODELS)
def test_the_last_blocks_get_the_same_gradients_as_when_all_blocks_train(preset):
    model = tuned(preset, "full", last_blocks=1)
    last, whole = gradients(model), gradients(tuned(preset, "full"))
    of_last_block = {id(parameter) for parameter in encoder_blocks(model.image_encoder)[-1].parameters()}
    assert {name for name, parameter in model.named_parameters() if id(parameter) in of_last_block} <= last.keys()
    assert len(last) < len(whole)
    for name, gradient in last.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("preset", MODELS)
def test_an_encoder_may_be_stopped_after_any_step_and_continued(preset):
    model, shown = tuned(preset, "frozen"), images(COUNT)
    whole = model.encode_image(shown)
    for num_steps in range(len(model.image_encoder.steps) + 1):
        rest = model.encode_rest(model.image_encoder.prefix(shown, num_steps))
        for part, expected in zip((rest.embedding, *rest.high_res), (whole.embedding, *whole.high_res), strict=True):
            assert torch.equal(part, expected)


@pytest.mark.parametrize("preset", MODELS)
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_gradients_are_the_same_from_a_stored_encoder_state(preset, mode):
    whole, parts = (tuned(preset, mode, last_blocks=1) for _ in range(2))
    expected = gradients(whole)
    with torch.no_grad():
        state = parts.encode_prefix(images(COUNT))
    assert isinstance(state, EncoderState)
    assert 0 < state.num_steps < len(parts.image_encoder.steps)
    parts.encode_image = lambda _: parts.encode_rest(state)
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(gradient, expected.pop(name), rtol=1e-9, atol=1e-12)
    assert not expected


def test_the_number_of_frozen_steps_follows_from_what_trains():
    assert tuned("sam_nano", "frozen").num_frozen_steps() is None
    assert tuned("sam_nano", "lora").num_frozen_steps() == 0
    assert tuned("sam_nano", "full", last_blocks=1).num_frozen_steps() == 1


@pytest.mark.parametrize("preset", MODELS)
def test_adapters_are_in_the_last_blocks_only(preset):
    model = tuned(preset, "lora", last_blocks=1)
    last = encoder_blocks(model.image_encoder)[-1]
    inside = {id(parameter) for parameter in last.parameters() if parameter.requires_grad}
    assert inside == {id(p) for p in model.image_encoder.parameters() if p.requires_grad}
    assert inside


def test_the_table_shows_the_share_of_trainable_parameters():
    model, whole = (tuned("sam_nano", "full", last_blocks=last) for last in (1, None))
    shares = [next(iter(trained_table(model).columns[3].cells)) for model in (model, whole)]
    assert float(shares[0].rstrip("%")) < 60
    assert shares[1] == "100.0%"


@pytest.mark.parametrize("preset", MODELS)
@pytest.mark.parametrize(("mode", "last_blocks"), [("lora", None), ("full", None), ("full", 1)])
def test_activation_checkpointing_changes_no_gradient(preset, mode, last_blocks):
    models = [
        tuned(preset, mode, last_blocks=last_blocks, checkpoint_activations=checkpoint) for checkpoint in (False, True)
    ]
    if mode == "full" and last_blocks is None:
        for model in models:
            model.train()  # batch norms update their statistics, once per step
    plain, checkpointed = (gradients(model) for model in models)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-9, atol=1e-12)
    for (name, expected), (_, buffer) in zip(models[0].named_buffers(), models[1].named_buffers(), strict=True):
        assert torch.equal(buffer, expected), name


def kept_bytes(model: ImageModel) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        embedding = model.encode_image(images(COUNT))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    del embedding
    return sum(size for pointer, size in kept.items() if pointer not in weights)


@pytest.mark.parametrize("preset", MODELS)
def test_activation_checkpointing_keeps_less_memory(preset):
    plain, checkpointed = (
        kept_bytes(tuned(preset, "lora", checkpoint_activations=checkpoint)) for checkpoint in (False, True)
    )
    assert checkpointed < plain / 3


@pytest.mark.parametrize("number", [0, 3])
def test_an_impossible_number_of_last_blocks_is_refused(number):
    with pytest.raises(InputError, match=r"tuning\.last_blocks.* 2 blocks"):
        tuned("sam_nano", "lora", last_blocks=number)


def test_last_blocks_of_a_frozen_encoder_are_refused():
    with pytest.raises(InputError, match=r"tuning\.last_blocks"):
        Tuning("frozen", last_blocks=2)
