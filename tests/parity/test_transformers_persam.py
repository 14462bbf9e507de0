"""The inputs of PerSAM have the same effect on our SAM as on ``transformers.SamModel``."""

import pytest
import torch
import transformers
from torch.testing import assert_close

from sam_train.checkpoints.huggingface import from_huggingface, layout_of
from sam_train.models.sam.sam import Sam
from sam_train.structures import Prompts
from tests.checkpoints.tiny import randomize
from tests.parity.test_transformers_sam import CONFIGS, equal_config

IMAGES, OBJECTS = 2, 3
DOUBLE = torch.double  # so that rounding does not hide a difference
TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}  # transformers takes some steps in single precision


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("prompted", [True, False])
def test_attention_similarity_and_target_embedding(config, guided, prompted):
    theirs = transformers.SamModel(equal_config(config)).double().eval()
    randomize(theirs)
    shared = theirs.shared_image_embedding.positional_embedding  # one matrix under two names
    theirs.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    ours = Sam(config).double().eval()
    ours.load_state_dict(from_huggingface(theirs.state_dict(), ours.state_dict(), layout_of(ours).renames)[0])

    generator = torch.Generator().manual_seed(9)
    side, grid = config.preprocessing.image_size, config.preprocessing.image_size // config.encoder.patch_size
    images = torch.randn(IMAGES, 3, side, side, dtype=DOUBLE, generator=generator)
    points = torch.rand(IMAGES * OBJECTS, 2, 2, dtype=DOUBLE, generator=generator) * side
    labels = torch.randint(0, 2, (IMAGES * OBJECTS, 2), generator=generator)
    similarity = 3 * torch.randn(IMAGES * OBJECTS, grid, grid, dtype=DOUBLE, generator=generator) if guided else None
    target = torch.randn(IMAGES * OBJECTS, config.dim, dtype=DOUBLE, generator=generator) if prompted else None

    prediction = ours.decode(
        ours.encode_image(images),
        Prompts(points, labels),
        torch.arange(IMAGES).repeat_interleave(OBJECTS),
        multimask=True,
        attention_similarity=similarity,
        target_embedding=target,
    )
    expected = theirs(
        pixel_values=images,
        input_points=points.unflatten(0, (IMAGES, OBJECTS)),
        input_labels=labels.unflatten(0, (IMAGES, OBJECTS)),
        attention_similarity=None if similarity is None else similarity.flatten(1)[:, None, None],
        target_embedding=None if target is None else target.unflatten(0, (IMAGES, OBJECTS))[:, :, None],
    )
    assert_close(prediction.logits, expected.pred_masks.flatten(0, 1), **TOLERANCE)
    assert_close(prediction.iou, expected.iou_scores.flatten(0, 1), **TOLERANCE)
