import torch

from sam_train.inference.overlay import _small_on_top


def test_parts_are_seen_before_their_wholes_and_every_pixel_once():
    masks = torch.zeros(3, 6, 6, dtype=torch.bool)
    masks[0] = True
    masks[1, 1:3, 1:3] = True
    masks[2, 2:5, 2:5] = True
    seen = _small_on_top(masks)
    assert torch.equal(seen.any(0), masks.any(0))
    assert seen.sum(0).max() == 1
    assert torch.equal(seen[1], masks[1])
    assert torch.equal(seen[2], masks[2] & ~masks[1])
