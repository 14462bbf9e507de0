"""TIFF as microscopes, ImageJ and others write it."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.mask_files import read_numbers
from sam_train.errors import InputError
from tests.data.sources.folders import discs, picture

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def write(path, pixels, **options):
    tifffile.imwrite(path, pixels, **options)
    return path


def pixels_of(path):
    return read_image(path).permute(1, 2, 0).numpy()


def labels_of(path):
    return read_numbers(path, is_region=False).pixels


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_masks_are_what_is_stored_and_images_what_is_shown(tmp_path, photometric):
    for name, labels in {"bool": discs() > 0, "labels": discs(), "deep": discs().astype(np.uint16) * 300}.items():
        path = write(tmp_path / f"{name}.tif", labels, photometric=photometric)
        np.testing.assert_array_equal(labels_of(path), labels)
    shown = pixels_of(write(tmp_path / "ramp.tif", RAMP, photometric=photometric))[..., 0]
    np.testing.assert_array_equal(shown, RAMP if photometric == "minisblack" else 255 - RAMP)
    black = pixels_of(tmp_path / "bool.tif")[0, 0].tolist()
    assert black == ([0] * 3 if photometric == "minisblack" else [255] * 3)


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">u2", ">f8"], ids=str
)
def test_an_image_of_any_number_type_keeps_the_order_of_its_numbers(tmp_path, dtype):
    stored = (RAMP.astype(np.int64) - (128 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    byteorder = ">" if dtype.startswith(">") else "<"
    found = pixels_of(write(tmp_path / "a.tif", stored, byteorder=byteorder))
    assert (found == found[..., :1]).all()
    steps = np.diff(found[..., 0].ravel().astype(int))
    assert steps.min() >= 0
    assert steps.sum() == 255
    if np.dtype(dtype).itemsize == 1:
        np.testing.assert_array_equal(found[..., 0], RAMP)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u4", "i2"])
def test_colors_of_any_number_type_are_stretched_together(tmp_path, dtype):
    stored = picture((40, 50)).astype(dtype) * 3
    found = pixels_of(write(tmp_path / "a.tif", stored, photometric="rgb"))
    single = pixels_of(write(tmp_path / "b.tif", stored.reshape(40, 150)))[..., 0]
    np.testing.assert_array_equal(found.reshape(40, 150), single)


LAYOUTS = {
    "lzw": {"compression": "lzw"},
    "predictor": {"compression": "zlib", "predictor": True},
    "zstd": {"compression": "zstd"},
    "tiles": {"tile": (16, 16)},
    "big": {"bigtiff": True},
    "big endian": {"byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_file_changes_nothing(tmp_path, layout):
    options = LAYOUTS[layout]
    np.testing.assert_array_equal(pixels_of(write(tmp_path / "a.tif", picture(), **options)), picture())
    labels = discs().astype(np.uint16) * 1000
    np.testing.assert_array_equal(labels_of(write(tmp_path / "b.tif", labels, **options)), labels)


def test_planes_of_color_may_lie_apart(tmp_path):
    planes = np.moveaxis(picture(), -1, 0)
    path = write(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(pixels_of(path), picture())


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits"])
def test_scans_of_one_bit_are_read(tmp_path, compression):
    mask = discs((33, 50)) > 0
    Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(labels_of(tmp_path / "a.tif"), mask)
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.tif")[..., 0], mask * np.uint8(255))


def test_what_a_palette_says_is_seen_and_its_indices_are_labels(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    path = write(tmp_path / "a.tif", RAMP, photometric="palette", colormap=colors * 257)
    np.testing.assert_array_equal(pixels_of(path), colors.T[RAMP])
    np.testing.assert_array_equal(labels_of(path), RAMP)


def test_reduced_copies_and_previews_are_no_pages(tmp_path):
    image = picture((32, 48))
    for name, pages in {
        "pyramid": [(image, 0), (image[::2, ::2], 1)],
        "preview": [(image[::4, ::4], 1), (image, 0)],
    }.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for page, subfiletype in pages:
                file.write(np.ascontiguousarray(page), photometric="rgb", subfiletype=subfiletype)
        np.testing.assert_array_equal(pixels_of(tmp_path / f"{name}.tif"), image)


def test_pages_and_stacks_are_refused_with_their_number(tmp_path):
    stack = np.stack([RAMP] * 5)
    files = {
        "pages": write(tmp_path / "pages.tif", stack, photometric="minisblack"),
        "imagej": write(tmp_path / "imagej.tif", stack, imagej=True, metadata={"axes": "ZYX"}),
        "volume": write(tmp_path / "volume.tif", np.stack([RAMP] * 5), volumetric=True, tile=(5, 16, 16)),
    }
    with tifffile.TiffWriter(tmp_path / "one.tif", imagej=True) as file:  # ImageJ's way beyond 4 GB: one page for all
        file.write(stack, contiguous=True, metadata={"axes": "ZYX"})
    for path in (*files.values(), tmp_path / "one.tif"):
        with pytest.raises(InputError, match=rf"several pages: {path}: has 5 pages; save each page"):
            read_image(path)
    with tifffile.TiffWriter(tmp_path / "previews.tif") as file:
        file.write(RAMP, subfiletype=1)
    with pytest.raises(InputError, match="has 1 pages, all of them previews"):
        read_image(tmp_path / "previews.tif")


UNCLEAR = {
    "2 bands of uint8": (2, np.uint8, {}),
    "4 bands of uint8": (4, np.uint8, {}),
    "5 bands of uint16": (5, np.uint16, {}),
    "13 bands of float32": (13, np.float32, {}),
    "2 bands of complex64": (2, np.complex64, {}),
}


@pytest.mark.parametrize("found", UNCLEAR)
def test_bands_without_a_meaning_are_refused_with_number_type_and_pages(tmp_path, found):
    bands, dtype, options = UNCLEAR[found]
    pixels = np.ones((8, 9, bands), dtype)
    path = write(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig", **options)
    for read in (read_image, labels_of):
        with pytest.raises(
            InputError, match=f"^unclear bands: {path}: {found}, 1 page, .* MINISBLACK.*; save one band"
        ):
            read(path)


def test_a_fourth_band_of_colors_and_transparency_are_not_seen(tmp_path):
    extra = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16, 1)
    for samples in (["unspecified"], ["unassalpha"]):
        pixels = np.concatenate([picture(), extra], axis=2)
        path = write(tmp_path / f"{samples[0]}.tif", pixels, photometric="rgb", extrasamples=samples)
        np.testing.assert_array_equal(pixels_of(path), picture())
    gray = np.stack([RAMP, RAMP.T], axis=2)
    path = write(
        tmp_path / "la.tif", gray, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(pixels_of(path)[..., 0], RAMP)
    with pytest.raises(InputError, match="transparent mask"):
        labels_of(path)


def test_a_huge_file_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", RAMP)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16 * 16 // 2 - 1)
    with pytest.raises(InputError, match=r"too large: .* 16 x 16 pixels .* tiles"):
        read_image(path)
