"""A few images of discs, and a page for them."""

import numpy as np
import pytest
from PIL import Image

from sam_train.app.opening import Opened, open_labeling
from sam_train.app.pictures import pictures_in_folder
from sam_train.app.saving import SavedLabels

SIZE = (48, 64)


def disc(x: float, y: float, radius: float = 10) -> np.ndarray:
    """A mask."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def write_photos(folder):
    """Three images, each with a bright disc and a dimmer one, and a file that is none."""
    folder.mkdir()
    for index in range(3):
        pixels = np.full((*SIZE, 3), 30, np.uint8)
        pixels[disc(20, 24)] = (230, 80 * index, 60)
        pixels[disc(48, 20, 7)] = (60, 150, 200)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def open_folder(photos, labels, checkpoint="sam2_nano", steps=2, pictures=None, image_size=64, **options):
    """Opens a folder as ``sam-app`` does."""
    found, notes = pictures_in_folder(photos)
    pictures = pictures or found
    saved = SavedLabels(labels, pictures, str(photos))
    model = Opened(str(checkpoint), image_size=image_size, device="cpu")
    return open_labeling(pictures, notes, saved, model, steps, **options)


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture
def open_page(photos, tmp_path):
    """Opens the folder, each time as a new server would."""
    return lambda **options: open_folder(photos, tmp_path / "labels", **options)
