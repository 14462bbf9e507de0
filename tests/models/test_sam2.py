"""What SAM 2 promises beyond what every image model does."""

import pytest
import torch

from sam_train.models.sam2.mask_decoder import stability
from tests.models.zoo import images, light_model, mixed_prompts

OBJECT_IMAGE = torch.tensor([0, 0, 1, 1, 1, 2])


@pytest.fixture(scope="module")
def model():
    return light_model("sam2.1_hiera_tiny")


@torch.no_grad()
@pytest.mark.parametrize("dynamic_multimask", [False, True])
def test_training_mode_changes_no_prediction(model, dynamic_multimask):
    """The official decoder drops the dynamic multimask in training mode; here it is asked for or not."""
    predictions = []
    for training in (False, True):
        model.train(training)
        features = model.encode_image(images(3))
        predictions.append(
            model.decode(features, mixed_prompts(), OBJECT_IMAGE, False, dynamic_multimask=dynamic_multimask)
        )
    model.eval()
    assert torch.equal(predictions[0].logits, predictions[1].logits)
    assert torch.equal(predictions[0].iou, predictions[1].iou)


@torch.no_grad()
def test_features_are_the_encoder_s_and_decoding_says_that_there_is_no_memory(model):
    """The same features serve videos, where memory takes the place of the embedding that still images have."""
    features = model.encode_image(images(3))
    before = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    model.no_mem_embed.add_(1)
    after = model.encode_image(images(3))
    shifted = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    model.no_mem_embed.sub_(1)
    assert torch.equal(after.embedding, features.embedding)
    assert not torch.allclose(before.logits, shifted.logits)
    embedding = model.image_encoder(images(3))[-1]
    assert torch.equal(features.embedding, embedding)


@torch.no_grad()
def test_an_object_that_is_not_there_keeps_its_logits(model):
    features = model.encode_image(images(3))
    before = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    bias.sub_(1000)
    after = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    bias.add_(1000)
    assert (after.object_score < 0).all()
    assert torch.equal(before.logits, after.logits)


@torch.no_grad()
def test_dynamic_multimask_leaves_three_masks_alone(model):
    features = model.encode_image(images(3))
    plain, dynamic = (
        model.decode(features, mixed_prompts(), OBJECT_IMAGE, True, dynamic_multimask=dynamic)
        for dynamic in (False, True)
    )
    assert torch.equal(plain.logits, dynamic.logits)


@torch.no_grad()
def test_prediction_leaves_unstable_masks_and_decoding_does_not(model):
    """Random weights draw masks that a small shift of the threshold changes."""
    features = model.encode_image(images(3))
    single, three = (model.decode(features, mixed_prompts(), OBJECT_IMAGE, many) for many in (False, True))
    predicted = model.predict(features, mixed_prompts(), OBJECT_IMAGE, multimask=False)
    is_stable = stability(single.logits)[:, 0] >= 0.98
    assert not is_stable.all()
    expected = torch.where(is_stable[:, None, None, None], single.logits, three.best().logits)
    torch.testing.assert_close(predicted.logits, expected)
    assert torch.equal(predicted.mask_tokens, single.mask_tokens)  # as official object pointers have it


@torch.no_grad()
def test_the_best_mask_comes_with_its_token(model):
    prediction = model.decode(model.encode_image(images(3)), mixed_prompts(), OBJECT_IMAGE, multimask=True)
    best = prediction.best()
    for number, candidate in enumerate(prediction.iou.argmax(dim=1).tolist()):
        assert torch.equal(best.mask_tokens[number, 0], prediction.mask_tokens[number, candidate])
