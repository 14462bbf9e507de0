import torch

from sam_train.inference.overlay import PANEL_SIDE, paint


def test_parts_are_seen_before_their_wholes_and_every_pixel_once():
    masks = torch.zeros(3, 6, 6, dtype=torch.bool)
    masks[0] = True
    masks[1, 1:3, 1:3] = True
    masks[2, 2:5, 2:5] = True
    plane = paint(iter(masks), (6, 6))
    assert torch.equal(plane > 0, masks.any(0))
    assert torch.equal(plane == 2, masks[1])
    assert torch.equal(plane == 3, masks[2] & ~masks[1])


def test_large_masks_are_painted_small():
    mask = torch.zeros(6000, 3000, dtype=torch.bool)
    mask[:3000] = True
    plane = paint([mask], (6000, 3000))
    assert plane.shape == (2 * PANEL_SIDE, PANEL_SIDE)
    assert torch.equal(plane.bool(), torch.arange(2 * PANEL_SIDE)[:, None].expand_as(plane) < PANEL_SIDE)
