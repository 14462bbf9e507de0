"""Decoding in parts, and making a part again for its gradient, changes neither masks nor gradients."""

import pytest
import torch

from sam_train.models.sam import mask_decoder
from tests.models.zoo import images, light_model, mixed_prompts

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
    for part_size, kept_size, num_checkpoints in (
        (WHOLE, WHOLE, 0),  # all at once, everything kept
        (WHOLE, 0, 1),
        (2 * image_numbers, 0, 4),  # the second image has three objects
        (1, 0, 6),
        (2 * image_numbers, image_numbers, 2),
    ):
        monkeypatch.setitem(mask_decoder.PART_SIZE, "cpu", part_size)
        monkeypatch.setattr(mask_decoder, "KEPT_SIZE", kept_size)
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
            # The bias of a key has none in truth: one way of attending leaves it out, another rounds.
            one, other = (torch.zeros_like(parameter) if gradient is None else gradient for gradient in pair)
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * max(other.abs().max().item(), 1e-3))
