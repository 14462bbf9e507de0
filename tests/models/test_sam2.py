"""Laws that hold for SAM 2 beyond those of every image model."""

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
    """The official decoder turns dynamic multimask off in training mode; here only the argument decides."""
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
def test_the_no_memory_embedding_is_added_by_decoding_and_not_by_encoding(model):
    """So the same features serve videos, where memory takes the place of that embedding."""
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
def test_a_negative_object_score_changes_no_logits(model):
    features = model.encode_image(images(3))
    before = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    bias.sub_(1000)
    after = model.decode(features, mixed_prompts(), OBJECT_IMAGE, multimask=True)
    bias.add_(1000)
    assert (after.object_score < 0).all()
    assert torch.equal(before.logits, after.logits)


@torch.no_grad()
def test_dynamic_multimask_changes_nothing_where_three_masks_are_asked_for(model):
    features = model.encode_image(images(3))
    plain, dynamic = (
        model.decode(features, mixed_prompts(), OBJECT_IMAGE, True, dynamic_multimask=dynamic)
        for dynamic in (False, True)
    )
    assert torch.equal(plain.logits, dynamic.logits)


@torch.no_grad()
def test_predict_replaces_unstable_masks_and_decode_does_not(model):
    """Masks of random weights are unstable: a small shift of the threshold changes them."""
    features = model.encode_image(images(3))
    single, three = (model.decode(features, mixed_prompts(), OBJECT_IMAGE, many) for many in (False, True))
    predicted = model.predict(features, mixed_prompts(), OBJECT_IMAGE, multimask=False)
    is_stable = stability(single.logits)[:, 0] >= 0.98
    assert not is_stable.all()
    expected = torch.where(is_stable[:, None, None, None], single.logits, three.best().logits)
    torch.testing.assert_close(predicted.logits, expected)
    assert torch.equal(predicted.mask_tokens, single.mask_tokens)  # as for official object pointers


@torch.no_grad()
def test_the_best_mask_is_selected_with_its_token(model):
    prediction = model.decode(model.encode_image(images(3)), mixed_prompts(), OBJECT_IMAGE, multimask=True)
    best = prediction.best()
    for number, candidate in enumerate(prediction.iou.argmax(dim=1).tolist()):
        assert torch.equal(best.mask_tokens[number, 0], prediction.mask_tokens[number, candidate])
