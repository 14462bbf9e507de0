"""Which pixels are of which object, whatever the file's kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter

from sam_train.data.sources.mask_files import num_soft, read_numbers
from sam_train.data.sources.mask_pieces import count_numbers
from sam_train.errors import InputError
from tests.data.sources.folders import discs, picture, png_of_16_bits, save, two_objects

GRAY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
DISCS = discs() > 0
WHITE_DISCS = Image.fromarray(DISCS * np.uint8(255))


def labels_of(path, **settings):
    return read_numbers(path, is_region=False, **settings).pixels


def region_of(path, **settings):
    return read_numbers(path, is_region=True, **settings).pixels != 0


@settings(deadline=None)  # files take what they take
@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.sampled_from(["png", "tif"]),
    st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, bool]),
)
def test_labels_come_back_as_written(tmp_path_factory, labels, suffix, dtype):
    if suffix == "png" and dtype in (np.int32, np.float32):
        suffix = "tif"  # PNG has neither
    stored = labels.astype(dtype)
    found = labels_of(save(tmp_path_factory.mktemp("labels") / f"a.{suffix}", stored))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, stored.astype(np.int32))


def save_palette(path, indices, colors):
    image = Image.fromarray(indices)
    image.putpalette([value for color in colors for value in color])
    image.save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_labels_of_a_palette_are_its_indices(tmp_path, suffix):
    colors = np.random.default_rng(0).integers(0, 256, (256, 3)).tolist()
    np.testing.assert_array_equal(labels_of(save_palette(tmp_path / f"a.{suffix}", GRAY // 10, colors)), GRAY // 10)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_of_a_palette_of_two_grays_the_brighter_is_the_object(tmp_path, suffix):
    for colors in ([[1] * 3, [255] * 3], [[255] * 3, [0] * 3], [[200] * 3, [0] * 3]):
        indices = (DISCS if colors[0][0] < colors[1][0] else ~DISCS).astype(np.uint8)
        np.testing.assert_array_equal(labels_of(save_palette(tmp_path / f"a.{suffix}", indices, colors)), DISCS)
    red_first = save_palette(tmp_path / f"red.{suffix}", DISCS.astype(np.uint8), [[200, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(labels_of(red_first), DISCS)


def test_equal_channels_are_one_plane(tmp_path):
    opaque = np.full_like(GRAY, 255)
    for name, planes in {"rgb": [GRAY] * 3, "rgba": [GRAY] * 3 + [opaque], "la": [GRAY, opaque]}.items():
        np.testing.assert_array_equal(labels_of(save(tmp_path / f"{name}.png", np.stack(planes, 2))), GRAY)


def test_jpeg_masks_are_cut_at_half_white(tmp_path):
    mask = np.zeros((40, 50), bool)
    mask[7:22, 11:38] = True
    path = save(tmp_path / "a.jpg", np.repeat(mask[..., None] * np.uint8(255), 3, 2))
    assert len(np.unique(np.array(Image.open(path)))) > 2
    np.testing.assert_array_equal(region_of(path), mask)


def jpeg(tmp_path, quality):
    return np.array(Image.open(save(tmp_path / f"{quality}.jpg", np.array(WHITE_DISCS), quality=quality)))


def resized(method):
    half = (WHITE_DISCS.width // 2, WHITE_DISCS.height // 2)
    return np.array(WHITE_DISCS.resize(half, method).resize(WHITE_DISCS.size, method))


SOFT = {
    **{f"jpeg {quality}": lambda folder, quality=quality: jpeg(folder, quality) for quality in (30, 60, 85, 95, 100)},
    "bilinear": lambda folder: resized(Image.Resampling.BILINEAR),
    "bicubic": lambda folder: resized(Image.Resampling.BICUBIC),
    "lanczos": lambda folder: resized(Image.Resampling.LANCZOS),
    "blurred": lambda folder: np.array(WHITE_DISCS.filter(ImageFilter.GaussianBlur(2))),
}


@pytest.mark.parametrize("kind", SOFT)
def test_a_soft_region_is_cut_at_half_of_its_maximum_in_any_format(tmp_path, kind):
    soft = SOFT[kind](tmp_path)
    files = {
        "a.png": soft,
        "b.tif": soft,
        "c.bmp": soft,
        "d.tif": soft.astype(np.uint16) * 257,
        "e.tif": soft / np.float32(255),
    }
    for name, pixels in files.items():
        np.testing.assert_array_equal(region_of(save(tmp_path / name, pixels)), soft >= soft.max() / 2, err_msg=name)
    assert abs((soft >= soft.max() / 2).sum() / DISCS.sum() - 1) < 0.03


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {}), ("webp", {"quality": 80}), ("tif", {"compression": "jpeg"})]
)
@pytest.mark.parametrize("brightest", [255, 150])
def test_lossy_files_and_lossless_copies_of_their_pixels_agree(tmp_path, suffix, options, brightest):
    path = save(tmp_path / f"a.{suffix}", np.repeat(DISCS[..., None] * np.uint8(brightest), 3, 2), **options)
    copy = save(tmp_path / "copy.png", np.array(Image.open(path).convert("L")))
    np.testing.assert_array_equal(region_of(path), region_of(copy))
    assert abs(region_of(path).sum() / DISCS.sum() - 1) < 0.02


def test_labels_are_not_taken_for_a_soft_region(tmp_path):
    rows, columns = np.mgrid[:64, :64]
    cells = (rows // 8 * 8 + columns // 8 + 1).astype(np.uint8)  # 64 numbers, every one beside larger and smaller ones
    rings = (np.hypot(rows - 32, columns - 32) // 4).astype(np.uint8)
    lines = np.zeros((64, 64), np.uint8)
    lines[::8, 5:50] = np.arange(1, 9)[:, None]
    drawn = {"cells": cells, "rings": rings, "lines": lines, "discs": discs() * 80, "tiny": discs((12, 16), 3)}
    for name, labels in drawn.items():
        assert num_soft(count_numbers(labels)) == 0
        np.testing.assert_array_equal(region_of(save(tmp_path / f"{name}.png", labels)), labels > 0)


def test_a_mask_that_jpeg_left_next_to_nothing_of_is_refused(tmp_path):
    path = save(tmp_path / "a.jpg", DISCS * np.uint8(8))
    copy = save(tmp_path / "b.png", np.array(Image.open(path)))
    for faint in (path, copy):
        with pytest.raises(InputError, match=f"^faint mask: {faint}: .*of 255"):
            region_of(faint)
    assert not region_of(save(tmp_path / "empty.jpg", DISCS * np.uint8(0))).any()


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {}), ("tif", {"compression": "jpeg"}), ("webp", {"quality": 80})]
)
def test_lossy_labels_are_refused(tmp_path, suffix, options):
    path = save(tmp_path / f"a.{suffix}", two_objects((32, 48)), **options)
    with pytest.raises(InputError, match=f"^lossy labels: {path}: .*data.objects=binary"):
        labels_of(path)
    with pytest.raises(InputError, match=f"^lossy labels: {path}: .*data.ignore"):
        region_of(path, ignore=[255])


def test_webp_without_loss_holds_labels(tmp_path):
    labels = np.repeat(two_objects((32, 48))[..., None], 3, 2)
    for name, options in {"plain": {}, "extended": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}}.items():
        path = save(tmp_path / f"{name}.webp", labels, lossless=True, **options)
        np.testing.assert_array_equal(labels_of(path), labels[..., 0])


WRONG_LABELS = {
    "color mask": (picture(), "png"),
    "transparent mask": (np.stack([GRAY, GRAY], 2), "png"),
    "non-integer labels": (GRAY.astype(np.float32) + 0.5, "tif"),
    "labels out of range": (GRAY.astype(np.int32) - 1, "tif"),
}


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_what_is_no_label_image_is_refused(tmp_path, kind):
    pixels, suffix = WRONG_LABELS[kind]
    path = save(tmp_path / f"a.{suffix}", pixels)
    with pytest.raises(InputError, match=f"^{kind}: {path}: .*; "):
        labels_of(path)


def test_numbers_of_objects_in_color_of_16_bits_are_refused(tmp_path):
    labels = np.repeat(np.array([[0, 5, 300, 400]], np.uint16)[..., None], 3, axis=2)
    with pytest.raises(InputError, match=r"16-bit color mask: .*a\.png: .* save one channel"):
        labels_of(png_of_16_bits(tmp_path / "a.png", labels))


@settings(deadline=None)  # files take what they take
@given(
    hnp.arrays(np.int16, (5, 6), elements=st.integers(-2, 4)),
    st.integers(-2, 4),
    st.sets(st.integers(-2, 4), max_size=2),
)
def test_background_and_ignored_numbers_are_no_object_and_all_others_are_one_each(
    tmp_path_factory, stored, background, ignore
):
    ignore -= {background}
    path = save(tmp_path_factory.mktemp("labels") / "a.tif", stored.astype(np.int32))
    objects = {number: stored == number for number in set(stored.ravel().tolist()) - ignore - {background}}
    if min(objects, default=0) < min(background, 0):
        with pytest.raises(InputError, match=r"labels out of range.*data\.background=.* or data\.ignore="):
            labels_of(path, background=background, ignore=list(ignore))
        return
    found, ignored, _ = read_numbers(path, False, background, list(ignore))
    assert {mask.tobytes() for mask in objects.values()} == {
        (found == number).tobytes() for number in np.unique(found[found > 0])
    }
    np.testing.assert_array_equal(np.zeros_like(found) if ignored is None else ignored, np.isin(stored, list(ignore)))


def test_the_dark_part_of_a_soft_region_may_be_the_object(tmp_path):
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, 255 - jpeg(tmp_path, 85))
        np.testing.assert_array_equal(region_of(path, background=255), DISCS)
