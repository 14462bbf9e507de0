"""Masks that mean something else than is read are asked about, over the whole set, and ordinary ones are not."""

import warnings

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from tests.data.sources.folders import EVERYTHING, discs, make_folder, picture, read_only, save


def check(root, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sources(FolderSource(str(root), **EVERYTHING, **settings).splits())


def refused(root, **settings) -> str:
    with pytest.raises(InputError) as error:
        check(root, **settings)
    return str(error.value)


def set_of(root, make, number=6):
    return make_folder(root, {str(seed): make(discs(seed=seed), seed) for seed in range(number)})


def classes(labels, seed):
    """Eight things each of three classes."""
    out = np.zeros((96, 128), np.uint8)
    for thing in range(24):
        y, x = divmod(thing, 6)
        out[y * 24 + 6 : y * 24 + 14, x * 21 + 5 : x * 21 + 13] = 1 + thing % 3
    return out


def touching(labels, seed):
    """Six things in a row, side by side."""
    out = np.zeros((96, 128), np.uint8)
    for thing in range(6):
        out[20:40, 10 + 18 * thing : 28 + 18 * thing] = 1 + thing % 3
    return out


def trimap(labels, seed):
    """1 object, 2 background, 3 edge, as in Oxford-IIIT Pet."""
    is_object = labels > 0
    edge = ndimage.binary_dilation(is_object, iterations=2) & ~ndimage.binary_erosion(is_object)
    return np.where(edge, 3, np.where(is_object, 1, 2)).astype(np.uint8)


def void_rim(labels, seed):
    """Objects with a rim of 255, as in PASCAL VOC."""
    rim = ndimage.binary_dilation(labels > 0, iterations=3) & ~ndimage.binary_erosion(labels > 0)
    return np.where(rim, 255, labels).astype(np.uint8)


def test_classes_of_many_things_are_asked_about(tmp_path):
    text = refused(set_of(tmp_path, classes))
    assert "one number, many pieces (6 of 6): set data.objects=components" in text
    assert "8 separate pieces have the same number" in text
    check(tmp_path, objects="components")
    check(tmp_path, objects="binary")
    assert [len(sample.value) for sample in read_only(tmp_path, objects="components")] == [24] * 6


def test_components_join_pieces_of_one_number_only(tmp_path):
    for sample in read_only(set_of(tmp_path, touching), objects="components"):
        assert sample.areas().tolist() == [20 * 18] * 6


def test_a_few_classes_are_asked_about_beside_others_of_one_piece(tmp_path):
    def streets(labels, seed):
        """Sky, road and a wall of one piece each, and cars."""
        out = np.zeros((96, 128), np.uint8)
        out[:20], out[80:], out[20:30, 5:120] = 1, 2, 3
        for car in range(6):
            out[50:60, 4 + 20 * car : 18 + 20 * car] = 4
        return out

    text = refused(set_of(tmp_path, streets))
    assert "6 separate pieces have the same number 4" in text


def test_empty_masks_do_not_count_as_answers(tmp_path):
    set_of(tmp_path, lambda labels, seed: classes(labels, seed) * (seed < 3), number=12)
    assert "one number, many pieces (3 of 3)" in refused(tmp_path, allow_empty=True)


@pytest.mark.parametrize(
    ("make", "settings", "found"),
    [
        (lambda labels, seed: labels + 1, {}, "number 1 covers"),
        (trimap, {}, "number 2 covers"),
        (lambda labels, seed: (labels == 0) * np.uint8(255), {"objects": "binary"}, "number 255 covers"),
        (lambda labels, seed: (labels == 0) * np.uint8(255), {"objects": "components"}, "number 255 covers"),
        (lambda labels, seed: (np.arange(128) // 32 + 1 + labels * 0).astype(np.uint8), {}, "holds 1 to 4 and no 0"),
    ],
)
def test_a_background_that_counts_as_an_object_is_asked_about(tmp_path, make, settings, found):
    text = refused(set_of(tmp_path, make), **settings)
    assert "background as an object (6 of 6): set data.background=<its number>" in text
    assert found in text
    check(tmp_path, background=0, **settings)  # a person's word is enough


def test_the_number_of_background_is_a_setting(tmp_path):
    def objects(root, **settings):
        check(root, **settings)
        return [sorted(mask.tobytes() for mask in sample.masks().numpy()) for sample in read_only(root, **settings)]

    expected = objects(set_of(tmp_path / "plain", lambda labels, seed: labels))
    one_based = set_of(tmp_path / "one", lambda labels, seed: labels + 1)
    assert objects(one_based, background=1) == expected
    inverted = set_of(tmp_path / "inverted", lambda labels, seed: (labels == 0) * np.uint8(255))
    regions = objects(tmp_path / "plain", objects="binary")
    assert objects(inverted, objects="binary", background=255) == regions
    edges = set_of(tmp_path / "trimap", trimap)
    for sample, labels in zip(
        read_only(edges, background=2, ignore=[3]), map(discs, [(96, 128)] * 6, range(6)), strict=True
    ):
        np.testing.assert_array_equal(sample.ignore.numpy(), trimap(labels, 0) == 3)
        np.testing.assert_array_equal(sample.masks().numpy(), [trimap(labels, 0) == 1])


def test_a_large_object_now_and_then_is_an_object(tmp_path):
    def close_up(labels, seed):
        return np.maximum(labels, 4 * (seed % 3 == 0)).astype(np.uint8)

    check(set_of(tmp_path / "labels", close_up))
    for seed in range(6):
        save(tmp_path / "files" / "images" / f"{seed}.png", picture((96, 128), seed))
        for number in (1, 2, 3):
            save(tmp_path / "files" / "masks" / str(seed) / f"{number}.png", discs(seed=seed) == number)
    check(tmp_path / "files")
    for path in (tmp_path / "files" / "masks").rglob("*.png"):
        save(path, ~np.array(Image.open(path)))
    assert "background as an object (18 of 18)" in refused(tmp_path / "files")


def test_void_is_asked_about(tmp_path):
    assert "void as an object (6 of 6): set data.ignore=[255]" in refused(set_of(tmp_path, void_rim))
    check(tmp_path, ignore=[255])


def test_void_is_neither_object_nor_background(tmp_path):
    for seed, sample in enumerate(read_only(set_of(tmp_path, void_rim), ignore=[255])):
        stored = void_rim(discs(seed=seed), seed)
        assert sample.value.tolist() == sorted(set(stored.ravel().tolist()) - {0, 255})
        np.testing.assert_array_equal(sample.ignore.numpy(), stored == 255)
        assert not (sample.masks().any(dim=0) & sample.ignore).any()


def test_void_in_files_of_single_objects_is_void_where_no_file_has_an_object(tmp_path):
    save(tmp_path / "images" / "a.png", picture((20, 20)))
    one, other = np.zeros((2, 20, 20), np.uint8)
    one[2:8, 2:8], one[8:10, 2:8] = 1, 255
    other[9:15, 2:8] = 1
    for name, mask in {"x": one, "y": other}.items():
        save(tmp_path / "masks" / "a" / f"{name}.png", mask)
    (sample,) = read_only(tmp_path, ignore=[255])
    assert sample.areas().tolist() == [36, 36]
    assert sample.ignore.nonzero().tolist() == [[8, x] for x in range(2, 8)]


def test_numbers_up_to_255_are_objects(tmp_path):
    for name, numbers in {"all": np.arange(256), "gray": np.array([0, 128, 255]), "white": np.array([0, 255])}.items():
        labels = np.repeat(numbers.astype(np.uint8), 32)[None].repeat(8, axis=0)
        labels[:, -1] = labels[:, 0] = 0
        check(set_of(tmp_path / name, lambda _, seed, labels=labels: labels))


@pytest.mark.parametrize(
    ("setting", "message"), [(255, "in brackets"), (["a"], "in brackets"), ([3, 0], "data.background=0, too")]
)
def test_ignored_numbers_are_a_list_without_the_background(tmp_path, setting, message):
    with pytest.raises(InputError, match=message):
        FolderSource(str(set_of(tmp_path, classes)), ignore=setting).splits()


def with_orientation(root, orientation, size=(12, 16), mask_orientation=None):
    for seed in range(4):
        for folder, pixels, tag in (
            ("images", picture(size, seed), orientation),
            ("masks", discs(size, seed), mask_orientation),
        ):
            exif = Image.Exif()
            if tag and seed:
                exif[0x0112] = tag
            save(root / folder / f"{seed}.png", pixels, exif=exif)
    return FolderSource(str(root), **EVERYTHING).splits()


@pytest.mark.parametrize(("orientation", "size"), [(2, (12, 16)), (3, (12, 16)), (4, (12, 16)), (6, (16, 16))])
def test_images_turned_by_a_tag_that_their_masks_lack_are_told(tmp_path, orientation, size):
    splits = with_orientation(tmp_path, orientation, size)
    told = (
        rf"turned by EXIF, masks not \(3 of 4\): .* as drawn on the turned images; .*such as .*1\.png: .* {orientation}"
    )
    with pytest.warns(UserWarning, match=told):
        check_sources(splits)


def test_images_and_masks_turned_alike_give_no_notice(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sources(with_orientation(tmp_path / "a", 3, mask_orientation=3))
        check_sources(with_orientation(tmp_path / "b", None))
