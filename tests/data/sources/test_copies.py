"""Copies of an image are known by their content alone."""

import shutil

import numpy as np
import pytest
import tifffile

from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from sam_train.runs.known_images import known_images
from tests.data.sources.folders import make_folder, save, two_objects


def test_a_copy_under_another_name_in_another_split_is_refused(tmp_path):
    for split in ("train", "val", "test"):
        make_folder(tmp_path / split, {f"{split}_{number}": two_objects((12, 16 + len(split))) for number in range(3)})
    known_images(FolderSource(str(tmp_path)).splits())
    shutil.copyfile(tmp_path / "train/images/train_1.png", tmp_path / "test/images/other_name.png")
    save(tmp_path / "test/masks/other_name.png", two_objects((12, 21)))
    with pytest.raises(InputError, match=r"1 of 3 train images are test images, too, such as train/train_1"):
        known_images(FolderSource(str(tmp_path)).splits())


def test_uncompressed_images_with_black_borders_are_not_taken_for_copies(tmp_path):
    generator = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        image = np.zeros((900, 1000), np.uint8)
        image[200:700, 200:800] = generator.integers(0, 256, (500, 600))
        folder = tmp_path / split
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        tifffile.imwrite(folder / "images" / f"{number}.tif", image)
        save(folder / "masks" / f"{number}.png", (image > 250).astype(np.uint8))
    sizes = {path.stat().st_size for path in tmp_path.rglob("*.tif")}
    assert len(sizes) == 1
    assert set(known_images(FolderSource(str(tmp_path)).splits())) == {"train", "val"}
