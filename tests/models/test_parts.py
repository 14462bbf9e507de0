"""Decoding in parts and recomputing parts in the backward pass change neither masks nor gradients."""

import gc

import pytest
import torch

from sam_train.models.sam import mask_decoder
from sam_train.structures import Prompts
from tests.models.zoo import images, light_config, light_model, mixed_prompts

OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])
MULTIMASK = {"single": False, "several": True, "each": torch.tensor([True, False, True, False, False, True])}
WHOLE = 1 << 40


@pytest.mark.parametrize("with_masks", [True, False])
@pytest.mark.parametrize("multimask", MULTIMASK.values(), ids=MULTIMASK)
@pytest.mark.parametrize("preset", ["sam_nano", "sam2.1_hiera_tiny"])
def test_parts_of_any_size_give_the_same_masks_and_gradients(preset, multimask, with_masks, monkeypatch):
    model = light_model(preset)
    prompts = mixed_prompts()
    prompts = prompts if with_masks else type(prompts)(prompts.points, prompts.labels)
    features = model.encode_image(images(3))
    image_numbers = features.embedding[0].numel()
    checkpoints = []

    def counted(*arguments, **options):
        checkpoints.append(1)
        return torch.utils.checkpoint.checkpoint(*arguments, **options)

    monkeypatch.setattr(mask_decoder, "checkpoint", counted)
    results = []
    one = model.parts.mask_decoder._graph_bytes(features.embedding.flatten(2).mT, prompts_of_one(model, prompts))
    for part_size, keep_bytes, num_checkpoints in (
        (WHOLE, WHOLE, 0),  # all at once, everything kept
        (WHOLE, 0, 1),
        (2 * image_numbers, 0, 4),  # the second image has three objects
        (1, 0, 6),
        (1, 2 * one, 4),
        (2 * image_numbers, 2 * one, 3),
    ):
        monkeypatch.setitem(mask_decoder.PART_SIZE, "cpu", part_size)
        model.parts.mask_decoder.keep_bytes = keep_bytes
        checkpoints.clear()
        prediction = model.decode(features, prompts, OBJECT_IMAGE, multimask)
        assert len(checkpoints) == num_checkpoints
        total = prediction.logits.square().mean() + prediction.iou.square().mean()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        results.append((prediction.logits, prediction.iou, gradients))
    for logits, iou, gradients in results[1:]:
        torch.testing.assert_close(logits, results[0][0], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(iou, results[0][1], rtol=1e-9, atol=1e-10)
        for parameter, *pair in zip(parameters, gradients, results[0][2], strict=True):
            # The true gradient of a key's bias is zero: one form of attention has none, another one a rounding error.
            one, other = (torch.zeros_like(parameter) if gradient is None else gradient for gradient in pair)
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * max(other.abs().max().item(), 1e-3))


def prompts_of_one(model, prompts):
    return model.parts.prompt_encoder(prompts).objects(slice(0, 1))


def gradients(model, keep_bytes):
    """Gradients of one loss over two rounds of decoding."""
    model.parts.mask_decoder.keep_bytes = keep_bytes
    features = model.encode_image(images(3))
    predictions = [model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask) for multimask in (True, False)]
    loss = sum(prediction.logits.square().mean() + prediction.iou.mean() for prediction in predictions)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.autograd.grad(loss, parameters, allow_unused=True)


@pytest.mark.parametrize("preset", ["sam_nano", "sam2.1_hiera_tiny"])
def test_kept_and_recomputed_parts_give_bitwise_equal_gradients(preset):
    model = light_model(preset)
    kept, repeated = (gradients(model, keep_bytes) for keep_bytes in (WHOLE, 0))
    for one, other in zip(kept, repeated, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_held_memory_is_counted_until_the_backward_pass_or_the_end_of_the_graph():
    model = light_model("sam_nano")
    decoder, features = model.parts.mask_decoder, model.encode_image(images(3))
    held = decoder._held

    def decode():
        return model.decode(features, mixed_prompts(), OBJECT_IMAGE, True)

    with torch.no_grad():
        decode()
    assert held.num_bytes == 0
    first = decode()
    one_round = held.num_bytes
    assert one_round > 0
    second = decode()
    assert held.num_bytes == 2 * one_round
    (first.logits.mean() + second.iou.mean()).backward(retain_graph=True)
    assert held.num_bytes == one_round  # the masks of the second were not in the loss
    del first, second
    gc.collect()
    assert held.num_bytes == 0
    decoder.keep_bytes = one_round
    rounds = [decode(), decode()]
    assert held.num_bytes == one_round
    assert len(rounds) == 2


@pytest.mark.parametrize(("preset", "image_size"), [("sam_vit_b", 512), ("sam2.1_hiera_tiny", 512), ("sam2_nano", 256)])
@pytest.mark.parametrize("num_points", [1, 10])
@pytest.mark.parametrize("with_masks", [True, False])
def test_the_estimated_memory_is_close_to_what_autograd_saves(preset, image_size, num_points, with_masks):
    torch.manual_seed(0)
    model = light_config(preset, image_size).build()
    points, masks = image_size * torch.rand(4, num_points, 2), torch.randn(4, 1, image_size // 4, image_size // 4)
    prompts = Prompts(points, torch.ones(4, num_points).long(), masks if with_masks else None)
    with torch.no_grad():
        features = model.encode_image(torch.randn(1, 3, image_size, image_size))
        embedded = model.parts.prompt_encoder(prompts)
    position, decoder = model.parts.prompt_encoder.dense_position(), model.parts.mask_decoder
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no other tensor gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prediction = decoder(features, position, embedded, torch.zeros(4).long(), True)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    truth = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)
    assert prediction.logits.requires_grad
    assert 0.75 * decoder._held.num_bytes < truth < 1.2 * decoder._held.num_bytes
