"""Where pixels lie on the earth: as GDAL places them."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_train.inference.georeference import Georeference, read_georeference, write_label_tiff

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


def test_a_file_that_is_no_tiff_or_does_not_say_enough_lies_nowhere(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tif", format="PNG")
    assert read_georeference(tmp_path / "a.tif") is None
    few = [(33550, 12, 3, (2.0, 2.0, 0.0), True), (33922, 12, 3, (0.0, 0.0, 0.0), True)]
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 4), np.uint8), photometric="minisblack", extratags=few)
    assert read_georeference(tmp_path / "b.tif") is None


def test_names_of_places_need_not_be_ascii(tmp_path):
    place = Georeference({**TIEPOINT, 34735: (1, 1, 0, 1, 3072, 0, 1, 32633), 34737: "Köln|"})
    write_label_tiff(tmp_path / "a.tif", np.zeros((4, 4), np.uint16), place)
    found = read_georeference(tmp_path / "a.tif")
    assert found is not None
    assert found.tags[34737] == "K?ln|"
