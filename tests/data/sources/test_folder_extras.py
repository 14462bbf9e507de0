"""Folders as PASCAL VOC, Cityscapes and ADE20K, and microscopes with stacks in files have them."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.recognizing import recognize
from sam_train.errors import FileError, InputError
from tests.data.sources.folders import make_folder, picture, read_only, save, two_objects

COLORS = {"road": [128, 64, 128], "tree": [107, 142, 35], "void": [0, 0, 90], "sky": [0, 0, 0]}


def save_palette(path, labels):
    image = Image.fromarray(labels).convert("L").convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_voc(root):
    """Of six images two have no masks and are in no list."""
    for index in range(6):
        save(root / "JPEGImages" / f"2007_{index}.jpg", picture((12, 16), index))
        if index < 4:
            labels = np.where(two_objects() == 3, 1, np.where(two_objects() > 0, 2, 0)).astype(np.uint8)
            labels[0, :5] = labels[4, :5] = 255
            save_palette(root / "SegmentationObject" / f"2007_{index}.png", labels)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_0\n2007_1\n")
    (lists / "val.txt").write_text("2007_2\n2007_3\n")
    return root


@pytest.mark.filterwarnings("ignore:.*those of val serve")
def test_pascal_voc_is_recognized_and_its_rim_is_ignored(tmp_path):
    (found,) = recognize(make_voc(tmp_path))
    assert found.what == "PASCAL VOC, 4 masks"
    words = dict(word.removeprefix("data.").split("=") for word in found.words)
    assert words.pop("data") == "folder"
    assert words.pop("ignore") == "[255]"
    splits = FolderSource(str(tmp_path), ignore=[255], **words).splits()
    check_sources(splits)
    assert {name: list(images.ids) for name, images in splits.items() if name != "test"} == {
        "train": ["2007_0", "2007_1"], "val": ["2007_2", "2007_3"],
    }  # fmt: skip
    sample = splits["train"].read(0)
    assert sample.value.tolist() == [1, 2]
    assert sample.ignore.sum() == 10
    np.testing.assert_array_equal(sample.masks().numpy(), [two_objects() == 3, two_objects() == 200])


def classes():
    """Two pieces of road that touch at a corner with a tree between them, and void; the rest is sky."""
    names = np.full((12, 16), "sky", object)
    names[1:4, 1:5], names[6:8, 6:9], names[4:6, 5:7], names[10:] = "road", "road", "tree", "void"
    return names


def save_colors(root, table=COLORS, name="table.json"):
    colors = np.array([[COLORS[name] for name in row] for row in classes()], np.uint8)
    save(root / "images" / "a.png", picture())
    save(root / "masks" / "a.png", colors)
    if name.endswith(".csv"):
        rows = "".join(f"{key}, {red}, {green}, {blue}\n" for key, (red, green, blue) in table.items())
        (root / name).write_text(f"name, r, g, b\n{rows}")
    else:
        (root / name).write_text(json.dumps(table))
    return {"colors": name, "background": "sky", "ignore": ["void"]}


@pytest.mark.parametrize("name", ["table.json", "table.csv"])
def test_colors_of_a_table_are_classes_and_their_pieces_objects(tmp_path, name):
    options = save_colors(tmp_path, name=name)
    (sample,) = read_only(tmp_path, **options)
    assert sample.category == ("road", "tree")
    np.testing.assert_array_equal(sample.masks().numpy(), [classes() == "road", classes() == "tree"])
    np.testing.assert_array_equal(sample.ignore.numpy(), classes() == "void")
    (pieces,) = read_only(tmp_path, objects="components", **options)
    assert pieces.category == ("road", "road", "tree")
    assert pieces.areas().tolist() == [12, 6, 4]
    source = FolderSource(str(tmp_path), split=(0, 0, 1), objects="components", **options)
    check_sources(images := source.splits())
    assert images["test"].categories == ("road", "tree", "void", "sky")


def test_black_is_background_unless_the_table_names_it(tmp_path):
    table = {name: color for name, color in COLORS.items() if name != "sky"}
    options = save_colors(tmp_path, table)
    (sample,) = read_only(tmp_path, colors=options["colors"], ignore=["void"])
    assert sample.category == ("road", "tree")
    (sample,) = read_only(tmp_path, colors=save_colors(tmp_path)["colors"], ignore=["void"])
    assert sample.category == ("road", "tree", "sky")


def test_colors_that_are_not_in_the_table_and_tables_that_are_none_are_named(tmp_path):
    options = save_colors(tmp_path, {"tree": COLORS["tree"], "sky": [0, 0, 0]})
    with pytest.raises(InputError, match="has no 'void', but tree, sky"):
        read_only(tmp_path, **options)
    with pytest.raises(FileError, match=r"unknown color: .*a\.png: 50 pixels .*, such as \[128, 64, 128\]"):
        read_only(tmp_path, colors=options["colors"])
    for text in ("{}", "[1]", '{"a": [1, 2]}', '{"a": [1, 2, 300]}', '{"a": [1, 2, 3], "b": [1, 2, 3]}', "nothing"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileError, match=r"no table of colors: .*bad\.json.* expected a csv with"):
            read_only(tmp_path, colors="bad.json")
    with pytest.raises(InputError, match=r"data\.colors=\.\./table\.json: leads out of"):
        read_only(tmp_path, colors="../table.json")
    with pytest.raises(InputError, match=r"data\.background=sky: expected a number, or a name of data\.colors"):
        read_only(tmp_path, background="sky")
    with pytest.raises(FileError, match=r"color mask: .*name its colors: data\.colors=<table>"):
        read_only(tmp_path)


def test_names_that_end_differently_are_paired_as_cityscapes_has_them(tmp_path):
    for city in ("aachen", "bonn"):
        save(tmp_path / "leftImg8bit" / city / "1_leftImg8bit.png", picture())
        save(tmp_path / "gtFine" / city / "1_gtFine_instanceIds.png", two_objects())
        save(tmp_path / "gtFine" / city / "1_gtFine_labelIds.png", two_objects() // 3)
    options = {"images": "leftImg8bit", "masks": "gtFine", "image_end": "_leftImg8bit"}
    samples = read_only(tmp_path, mask_end="_gtFine_instanceIds", **options)
    assert [sample.id for sample in samples] == ["aachen/1", "bonn/1"]
    np.testing.assert_array_equal(samples[0].masks().numpy(), [two_objects() == 3, two_objects() == 200])
    with pytest.raises(InputError, match=r"no name ends in '_color' .*such as aachen/1_gtFine_instanceIds"):
        read_only(tmp_path, mask_end="_color", **options)


@pytest.mark.parametrize("options", [{}, {"imagej": True}], ids=["pages", "imagej"])
def test_each_page_of_a_stack_is_an_image_and_a_file_is_a_group(tmp_path, options):
    stack = np.stack([picture((12, 16), seed)[..., 0] for seed in range(4)]).astype(np.uint16) * 100
    masks = np.stack([np.roll(two_objects(), page, 1) for page in range(4)])
    for name in "abc":
        for folder, pixels in (("images", stack), ("masks", masks)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", pixels, photometric="minisblack", **options)
    source = FolderSource(str(tmp_path), pages=True, split=(0.34, 0.33, 0.33))
    splits = source.splits()
    check_sources(splits)
    assert sorted(len(images) for images in splits.values()) == [4, 4, 4]
    images = splits["train"]
    assert {images.group(index) for index in range(4)} == {images.ids[0].partition("/")[0]}
    assert images.ids[2].endswith("/page_0002")
    assert len({images.identity(index) for index in range(4)} | {images.fingerprint(index) for index in range(4)}) == 8
    for page in range(4):
        sample = images.read(page)
        np.testing.assert_array_equal(sample.masks().numpy(), [masks[page] == 3, masks[page] == 200])
        low, high = np.percentile(stack[page], [0.5, 99.5])
        shown = np.rint((stack[page].clip(low, high) - low) / (high - low) * 255)
        assert np.abs(sample.image.numpy() - shown).max() <= 1
    with pytest.raises(InputError, match=r"several pages \(6\): .*data\.pages=true if each is an image"):
        check_sources(FolderSource(str(tmp_path), split=(0.34, 0.33, 0.33)).splits())


def test_stacks_of_other_pages_than_their_masks_are_refused(tmp_path):
    make_folder(tmp_path, {name: two_objects() for name in "abc"})
    (tmp_path / "images" / "a.png").unlink()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.stack([picture()[..., 0]] * 3), photometric="minisblack")
    (tmp_path / "images" / "b.png").unlink()
    (tmp_path / "images" / "b.tif").write_bytes(b"II*\0 and no more")
    source = FolderSource(str(tmp_path), pages=True)
    with pytest.raises(InputError) as error:
        check_sources(source.splits())
    told = str(error.value)
    assert f"pages that do not fit (1): give image and mask the same pages\n  {tmp_path}/masks/a.png: has 1" in told
    assert f"  {tmp_path}/images/b.tif" in told


def test_images_without_a_mask_are_left_out_where_that_is_wanted(tmp_path):
    make_folder(tmp_path)
    for name in ("p0_0", "p4_9"):
        (tmp_path / "masks" / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"missing mask \(2\): .*data\.skip_unlabelled=true"):
        check_sources(FolderSource(str(tmp_path)).splits())
    with pytest.warns(UserWarning, match="2 of 10 images have no mask; left out"):
        splits = FolderSource(str(tmp_path), skip_unlabelled=True).splits()
    check_sources(splits)
    assert sum(map(len, splits.values())) == 8
