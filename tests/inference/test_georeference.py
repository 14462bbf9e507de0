"""Where pixels lie on the earth: as GDAL places them."""

import numpy as np
import pytest

from sam_train.inference.georeference import Georeference

TIEPOINT = {33550: (2.0, 2.0, 0.0), 33922: (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0)}
MATRIX = {34264: (2.0, 0, 0, 1000.0, 0, -2.0, 0, 5000.0, 0, 0, 0, 0, 0, 0, 0, 1.0)}


@pytest.mark.parametrize("tags", [TIEPOINT, MATRIX])
@pytest.mark.parametrize("pixel", [1, 2])
def test_whole_numbers_are_edges_of_pixels_or_their_middles_as_the_file_says(tags, pixel):
    place = Georeference({**tags, 34735: (1, 1, 0, 2, 1025, 0, 1, pixel, 3072, 0, 1, 32633)})
    corners = place.place(np.array([[0.0, 0.0], [3.0, 1.0]]))
    shift = np.array([1.0, -1.0]) if pixel == 2 else 0  # half a pixel
    assert np.array_equal(corners, np.array([[1000.0, 5000.0], [1006.0, 4998.0]]) - shift)
    assert place.epsg == 32633
    assert Georeference(tags).epsg is None
