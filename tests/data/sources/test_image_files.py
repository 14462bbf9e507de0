"""What a stored pixel means, whatever the file's kind."""

import io
import os
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.mask_files import read_numbers
from sam_train.errors import InputError
from tests.data.sources.folders import picture, png_of_16_bits, save

GRAY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


def pixels_of(path):
    image = read_image(path)
    assert image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_rgb_is_kept(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(pixels_of(save(tmp_path / f"a.{suffix}", picture(), **options)), picture())


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P"])
def test_gray_is_repeated(tmp_path, mode):
    levels = np.where(GRAY > 100, 255, 0).astype(np.uint8) if mode == "1" else GRAY
    Image.fromarray(levels).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), np.repeat(levels[..., None], 3, 2))


def test_stored_colors_count_under_transparency(tmp_path):
    alpha = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16, 1)
    path = save(tmp_path / "a.png", np.concatenate([picture(), alpha], 2))
    np.testing.assert_array_equal(pixels_of(path), picture())


def test_palette_gives_its_colors_transparent_or_not(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), expected)


DEEP = hnp.arrays(np.uint16, (5, 7), elements=st.integers(0, 1000), fill=st.nothing())


@settings(deadline=None)  # files take what they take
@given(DEEP, st.integers(1, 60), st.integers(0, 5000))
def test_deep_images_look_the_same_in_any_unit(tmp_path_factory, pixels, gain, offset):
    folder = tmp_path_factory.mktemp("deep")
    expected = pixels_of(save(folder / "a.png", pixels))
    rescaled = pixels * np.uint16(gain) + np.uint16(offset)
    for path, stored in {"b.png": rescaled, "b.tif": rescaled, "c.tif": rescaled.astype(np.float32) / 64 - 20}.items():
        found = pixels_of(save(folder / path, stored)).astype(int)
        assert np.abs(found - expected).max() <= 1, path  # halves may round either way


@settings(deadline=None)  # files take what they take
@given(DEEP.filter(lambda pixels: pixels.min() < pixels.max()))
def test_deep_images_use_all_8_bits_and_keep_their_order(tmp_path_factory, pixels):
    found = pixels_of(save(tmp_path_factory.mktemp("deep") / "a.tif", pixels))[..., 0]
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found.ravel()[np.argsort(pixels, axis=None, kind="stable")].astype(int)) >= 0).all()


def test_deep_images_ignore_a_hot_pixel(tmp_path):
    pixels = np.tile(np.arange(100, 200, dtype=np.uint16), (100, 1))
    pixels[50, 50] = 65535
    found = pixels_of(save(tmp_path / "a.png", pixels))[..., 0]
    assert int(found[0, 50]) == pytest.approx(128, abs=2)


def test_flat_and_missing_pixels_are_black(tmp_path):
    assert not pixels_of(save(tmp_path / "flat.png", np.full((3, 4), 700, np.uint16))).any()
    pixels = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    pixels[0, 1] = np.nan
    assert pixels_of(save(tmp_path / "hole.tif", pixels))[0, 1, 0] == 0
    with pytest.raises(InputError, match="no pixel is a finite number"):
        read_image(save(tmp_path / "nan.tif", np.full((3, 4), np.nan, np.float32)))


UPRIGHT = {  # EXIF orientation: what it takes to see the stored rows and columns upright
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_and_masks_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", picture(), exif=exif)
    np.testing.assert_array_equal(pixels_of(path), UPRIGHT[orientation](picture()))
    path = save(tmp_path / f"m.{suffix}", GRAY, exif=exif)
    np.testing.assert_array_equal(read_numbers(path, is_region=False).pixels, UPRIGHT[orientation](GRAY))


def test_a_photograph_with_a_preview_is_one_image(tmp_path):
    preview = Image.fromarray(picture((6, 8)))
    Image.fromarray(picture()).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_image(tmp_path / "a.jpg").shape == (3, 12, 16)


def test_color_of_16_bits_keeps_its_high_bytes_if_there_is_anything_in_them(tmp_path):
    pixels = picture().astype(np.uint16) * 256
    np.testing.assert_array_equal(pixels_of(png_of_16_bits(tmp_path / "a.png", pixels)), picture())
    for factor, largest in ((16, 4095), (256, 255)):
        with pytest.raises(InputError, match=rf"dark 16-bit color: .*a\.png: .* {largest} of 65535"):
            read_image(png_of_16_bits(tmp_path / "a.png", pixels // factor))


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 16 // 2 - 1)
    with pytest.raises(InputError, match="tiles"):
        read_image(path)


def test_pipes_and_broken_links_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name in ("pipe.png", "link.png"):
        with pytest.raises(InputError, match=f"not a file: .*{name}"):
            read_image(tmp_path / name)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    return file.getvalue()


@settings(deadline=None)  # files take what they take
@given(st.data(), st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]))
def test_damage_is_an_error_that_names_the_file(tmp_path_factory, data, kind):
    damaged = bytearray(encoded(kind))
    if data.draw(st.booleans(), label="truncate"):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4) if damaged else st.just([])):
        damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damage") / "a.png"
    path.write_bytes(damaged)
    for read in (read_image, partial(read_numbers, is_region=False)):
        told = str(path)
        try:
            read(path)
        except InputError as error:
            told = str(error)
        assert str(path) in told
