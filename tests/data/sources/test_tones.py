"""Numbers of any depth and number of bands become 8 bits by one rule, whatever the kind of data."""

from dataclasses import replace

import datasets
import numpy as np
import pytest
import tifffile

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.hf.source import HfSource
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.npz.source import NpzSource
from sam_train.data.sources.tones import Tones, tones_of
from sam_train.data.sources.volume.grid import from_slices
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from tests.data.sources.coco_files import annotation, make_coco
from tests.data.sources.folders import png_of_16_bits, save, two_objects
from tests.data.sources.volume_files import save_nifti

SIZE = (12, 16)
RULES = [
    {"channels": [3, 1, 2]},
    {"channels": [4]},
    {"channels": [3, 1, 2], "window": [100, 2000]},
    {"channels": [3, 1, 2], "window": [[100, 2000], [0, 900], [50, 60]]},
    {"channels": [3, 1, 4], "percentiles": [2, 90]},
]


def bands(seed=0, number=5, dtype=np.uint16):
    """No 0 is among them: volumes leave zeros out."""
    found = np.random.default_rng(seed).integers(1, 3000, (*SIZE, number))
    return (found * np.arange(1, number + 1)).astype(dtype)


def expected(stored, channels, window=None, percentiles=(0.5, 99.5)):
    shown = []
    for place, channel in enumerate(channels):
        one = stored[..., channel - 1].astype(float)
        low, high = np.percentile(one, percentiles) if window is None else np.broadcast_to(window, (3, 2))[place]
        shown.append(np.rint((one.clip(low, high) - low) / (high - low) * 255))
    return np.stack(shown * (3 // len(shown)))


def write_tiff(path, stored, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig="contig", **options)
    return path


def as_folder(root, number=1, **rule):
    for seed in range(number):
        write_tiff(root / "images" / f"{seed}.tif", bands(seed))
        save(root / "masks" / f"{seed}.png", two_objects(SIZE))
    return FolderSource(str(root), split=(0, 0, 1), **rule)


def as_coco(root, **rule):
    image = {"id": 1, "file_name": "0.tif", "height": SIZE[0], "width": SIZE[1]}
    categories = [{"id": 3, "name": "leaf"}]
    make_coco(root, {"images": [image], "annotations": [annotation(1, 1)], "categories": categories}, images="none")
    (root / "none" / "0.tif").unlink()
    write_tiff(root / "none" / "0.tif", bands())
    return CocoSource(str(root), split=(0, 0, 1), **rule)


def as_table(root, **rule):
    content = write_tiff(root / "a.tif", bands()).read_bytes()
    mask = save(root / "m.png", two_objects(SIZE)).read_bytes()
    columns = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    rows = {name: [{"bytes": one, "path": None}] for name, one in (("image", content), ("mask", mask))}
    datasets.Dataset.from_dict(rows, features=columns).to_parquet(root / "a.parquet")
    return HfSource(str(root / "a.parquet"), split=(0, 0, 1), **rule)


def as_arrays(root, **rule):
    np.savez(root / "a.npz", imgs=bands(), gts=two_objects(SIZE))
    return NpzSource(str(root), split=(0, 0, 1), **rule)


def as_volume(root, number=1, **rule):
    for seed in range(number):
        voxels = [from_slices(bands(seed)[None, ..., band], "axial") for band in range(5)]
        save_nifti(root / "images" / f"{seed}.nii.gz", np.stack(voxels, -1))
        save_nifti(root / "labels" / f"{seed}.nii.gz", from_slices(two_objects(SIZE)[None], "axial"))
    return VolumeSource(str(root), split=(0, 0, 1), **rule)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")
@pytest.mark.parametrize("make", [as_folder, as_coco, as_table, as_arrays, as_volume])
def test_bands_a_window_and_percentiles_mean_the_same_in_every_source(tmp_path, make, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    source = make(tmp_path)
    for rule in RULES:
        images = replace(source, **rule).splits()["test"]
        check_sources({"test": images})
        difference = images.read(0).image.numpy() - expected(bands(), **rule)
        assert np.abs(difference).max() <= (0 if "window" in rule else 1), rule  # halves may round either way
    assert len({replace(source, **rule).splits()["test"].fingerprint(0) for rule in RULES}) == len(RULES)
    with pytest.raises(InputError, match=r"5 (bands|channels)"):
        check_sources({"test": replace(source, channels=[6]).splits()["test"]})


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_all_16_bits_of_colors_count_where_a_rule_is_given(tmp_path, kind):
    colors = bands(number=3)
    path = tmp_path / f"a.{kind}"
    png_of_16_bits(path, colors) if kind == "png" else tifffile.imwrite(path, colors, photometric="rgb")
    found = read_image(path, tones=Tones(windows=((100, 2000),))).numpy()
    np.testing.assert_array_equal(found, expected(colors, [1, 2, 3], [100, 2000]))
    together = read_image(path, tones=Tones(percentiles=(1, 99))).numpy()
    low, high = np.percentile(colors, [1, 99])  # colors keep their balance
    assert np.abs(together - expected(colors, [1, 2, 3], [low, high])).max() <= 1
    swapped = read_image(path, tones=Tones((3, 2, 1), ((100, 2000),))).numpy()
    np.testing.assert_array_equal(swapped, found[::-1])


def test_8_bits_stay_as_they_are_unless_a_rule_stretches_them(tmp_path):
    stored = bands(number=4).astype(np.uint8)
    path = write_tiff(tmp_path / "a.tif", stored)
    found = read_image(path, tones=Tones((4, 1, 2))).numpy()
    np.testing.assert_array_equal(found, stored.transpose(2, 0, 1)[[3, 0, 1]])
    stretched = read_image(path, tones=Tones((4,), ((0, 100),))).numpy()
    np.testing.assert_array_equal(stretched, expected(stored, [4], [0, 100]))


def test_what_is_no_number_is_black_and_counts_in_no_percentile(tmp_path):
    stored = bands(dtype=np.float32)
    stored[0, :4] = np.nan
    found = read_image(write_tiff(tmp_path / "a.tif", stored), tones=Tones((2,))).numpy()
    ends = np.nanpercentile(stored[..., 1], [0.5, 99.5])
    assert found[:, 0, :4].max() == 0
    assert np.abs(found[:, 1:] - expected(stored[1:], [2], ends)).max() <= 1


@pytest.mark.parametrize("make", [as_folder, as_volume])
def test_percentiles_of_the_set_are_those_of_all_training_images_and_of_no_other(tmp_path, make):
    source = replace(make(tmp_path, number=6), channels=[3, 1, 2], percentiles=[1, 98], percentiles_of="set")
    source = replace(source, split=(0.5, 0.25, 0.25))
    train = source.splits()["train"]
    seeds = [int(name.split("/")[0]) for name in train.ids]
    pixels = np.concatenate([bands(seed).reshape(-1, 5) for seed in seeds])
    settled = source.settled()
    np.testing.assert_allclose(settled.window, [np.percentile(pixels[:, band], [1, 98]) for band in (2, 0, 1)])
    assert settled.settled() == settled
    for split, images in settled.splits().items():
        shown = expected(bands(int(images.ids[0].split("/")[0])), [3, 1, 2], settled.window)
        np.testing.assert_array_equal(images.read(0).image.numpy(), shown, split)
    one = replace(source, percentiles_of="image")
    assert one.settled() == one


def test_of_many_pixels_as_many_are_drawn_of_each_image(tmp_path, monkeypatch):
    monkeypatch.setattr("sam_train.data.sources.pixel_source._MOST_KEPT", 4 * 100)
    source = replace(as_folder(tmp_path, number=6), channels=[1], percentiles_of="set", split=(0.7, 0.15, 0.15))
    seeds = [int(name) for name in source.splits()["train"].ids]
    assert len(seeds) == 4
    (low, high), *others = source.settled().window
    assert not others
    stored = np.concatenate([bands(seed)[..., 0].ravel() for seed in seeds])
    assert np.percentile(stored, 0) <= low < np.percentile(stored, 4)
    assert np.percentile(stored, 96) < high <= stored.max()
    assert source.settled() == source.settled()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"channels": [0, 1, 2]}, r"data\.channels=\[0, 1, 2\]: .* numbers of bands, counted from 1"),
        ({"channels": [1, 2]}, "expected one or three"),
        ({"channels": 3}, "data.channels=3: expected one or three"),
        ({"window": "liver"}, "expected soft_tissue, lung, bone, brain or two numbers"),
        ({"window": [5, 5]}, r"data\.window=\[5, 5\]: expected the lower and the higher"),
        ({"window": [[0, 1], [0, 1]]}, "2 windows for data.channels=.*; give one for all, or one for each"),
        ({"percentiles": [99, 1]}, r"data\.percentiles=\[99, 1\]: expected two from 0 to 100"),
    ],
)
def test_settings_that_make_no_rule_are_refused(rule, words):
    with pytest.raises(InputError, match=words):
        tones_of(rule.get("channels", ()), rule.get("window"), rule.get("percentiles"))


def test_bands_without_a_meaning_need_to_be_named(tmp_path):
    source = as_folder(tmp_path, window=[0, 100])
    with pytest.raises(InputError, match=r"unclear bands.*5 bands.*data\.channels=\[3,2,1\]"):
        source.splits()["test"].read(0)
    with pytest.raises(InputError, match="percentiles_of=sets: expected image or set"):
        replace(source, percentiles_of="sets").splits()
    with pytest.raises(InputError, match="no training images"):
        replace(source, window=None, channels=[1], percentiles_of="set").settled()
