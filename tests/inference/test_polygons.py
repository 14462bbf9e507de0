"""Polygons hold exactly the pixels of the mask that they are made of."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_train.inference.polygons import polygons, signed_area


def filled(rings, size):
    """Pixels whose middle is inside by the even-odd rule, counted along each row."""
    mask = np.zeros(size, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if x0 == x1:
                mask[min(y0, y1) : max(y0, y1), x0:] ^= True
    return mask


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_polygons_hold_the_pixels_of_their_mask(mask):
    found = polygons(mask)
    assert (filled([ring for rings in found for ring in rings], mask.shape) == mask).all()
    for outer, *holes in found:
        assert all(ring[0] == ring[-1] and len(set(ring)) == len(ring) - 1 for ring in (outer, *holes))
        assert signed_area(outer) > 0 > min([*map(signed_area, holes), -1])
    assert sum(signed_area(ring) for rings in found for ring in rings) == mask.sum()


def test_a_ring_has_a_hole_and_only_its_corners():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 1:5] = True
    mask[2, 2:4] = False
    (rings,) = polygons(mask, corner=(10, 20))
    assert [len(ring) for ring in rings] == [5, 5]
    assert set(rings[0]) == {(21, 11), (25, 11), (25, 14), (21, 14)}
    assert set(rings[1]) == {(22, 12), (24, 12), (24, 13), (22, 13)}


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    assert len(polygons(np.eye(2, dtype=bool))) == 2
