"""SlimSAM as published: the sizes of its config.json are enough to build it and to read its weights."""

import pytest
import torch
import transformers

from sam_train.checkpoints.huggingface import from_huggingface, layout_of
from sam_train.models import build_model


# Of nielsr/slimsam-50-uniform and nielsr/slimsam-77-uniform; what they leave out is ViT-B's.
@pytest.mark.parametrize(
    ("preset", "vision"),
    [
        ("slimsam_50_uniform", {"hidden_size": 384, "mlp_dim": 1536}),
        ("slimsam_77_uniform", {"hidden_size": 168, "mlp_dim": 696}),
    ],
)
def test_the_preset_has_the_published_shapes(preset, vision):
    with torch.device("meta"):
        theirs = transformers.SamModel(transformers.SamConfig(vision_config=vision))
        ours = build_model(preset)
    own = ours.state_dict()
    state, unexpected = from_huggingface(theirs.state_dict(), own, layout_of(ours).renames)
    assert not unexpected
    assert {name: tensor.shape for name, tensor in state.items()} == {name: own[name].shape for name in own}
    encoder = ours.config.encoder
    published = theirs.config.vision_config
    assert encoder.num_heads == published.num_attention_heads
    assert encoder.global_blocks == tuple(published.global_attn_indexes)
    assert encoder.window_size == published.window_size
