"""What is wrong with a folder of images and masks is told with file and remedy, and real folders pass."""

import os
import re

import pytest
from PIL import Image

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from tests.data.sources.folders import EVERYTHING, make_folder, picture, read_only, save, two_objects
from tests.parity.reference import SHARED

REAL = [
    ("nuclei_fluorescence", {"group_column": "group"}, 100),
    ("nuclei_histology", {"group_column": "group"}, 49),
    ("buildings_aerial", {"allow_empty": True}, 105),
    ("balloon", {}, 34),
    ("em_axon_myelin", {"masks": "masks_instance", "group_pattern": r"sub-rat\d"}, 7),
    ("med2d_mini/polyp", {"objects": "components"}, 3),
    ("med2d_mini/polyp", {"objects": "binary", "masks": "masks_original"}, 3),
    ("med2d_mini/cxr", EVERYTHING, 1),
    ("video_davis2016", {"images": "JPEGImages", "masks": "Annotations", "group_pattern": "480p/([^/]+)"}, 233),
]


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real data at {SHARED / 'data'}")
@pytest.mark.parametrize(("name", "options", "count"), REAL)
def test_real_data_pass_the_check(name, options, count):
    splits = FolderSource(str(SHARED / "data" / name), **options).splits()
    check_sources(splits)
    assert sum(map(len, splits.values())) == count
    group = re.compile(options.get("group_pattern", ".*"))
    groups = [name for source in splits.values() for name in {group.search(name)[0] for name in source.ids}]
    assert len(set(groups)) == len(groups)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real data at {SHARED / 'data'}")
def test_real_objects_are_counted_as_their_authors_do():
    samples = read_only(SHARED / "data" / "nuclei_fluorescence")
    assert sum(len(sample.value) for sample in samples) == 4475
    (lungs,) = read_only(SHARED / "data" / "med2d_mini" / "cxr")
    assert len(lungs.value) == 5


def test_tiles_without_buildings_need_consent(tmp_path):
    make_folder(tmp_path, {"a": two_objects(), "b": two_objects() * 0, "c": two_objects()})
    with pytest.raises(InputError, match=r"all-zero mask \(1\): .*data.allow_empty=true\n.*b\.png"):
        check_sources(FolderSource(str(tmp_path)).splits())
    check_sources(FolderSource(str(tmp_path), allow_empty=True).splits())


def image_of(root, name, **options):
    return save(root / name, picture(), **options)


def turned(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    image_of(root, "images/g.jpg", exif=exif)
    save(root / "masks" / "g.png", two_objects())


FAULTS = {
    "unreadable file": lambda root: (root / "images" / "g.png").write_bytes((root / "images/g.png").read_bytes()[:300]),
    "empty file": lambda root: (root / "masks" / "g.png").write_bytes(b""),
    "missing mask": lambda root: (root / "masks" / "g.png").unlink(),
    "mask without image": lambda root: save(root / "masks" / "other.png", two_objects()),
    "size mismatch": lambda root: save(root / "masks" / "g.png", two_objects((12, 15))),
    "all-zero mask": lambda root: save(root / "masks" / "g.png", two_objects() * 0),
    "color mask": lambda root: image_of(root, "masks/g.png"),
    "duplicate stem": lambda root: image_of(root, "images/g.jpg"),
    "two kinds of masks": lambda root: save(root / "masks" / "g__1.png", two_objects()),
    "not a file": lambda root: ((root / "images/g.png").unlink(), (root / "images/g.png").symlink_to("gone")),
    "link out of the data root": lambda root: (
        (root / "masks/g.png").unlink(),
        (root / "masks/g.png").symlink_to(save(root.parent / "outside.png", two_objects())),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_check_names_kind_file_and_remedy_and_reading_stops_there(tmp_path, kind):
    root = make_folder(tmp_path / "data", {stem: two_objects() for stem in "abcdefgh"})
    FAULTS[kind](root)
    splits = FolderSource(str(root)).splits()
    with pytest.raises(InputError) as error:
        check_sources(splits)
    heading, line = str(error.value).splitlines()[2:]
    assert heading.startswith(f"{kind} (1): ")
    assert ("other.png" if kind == "mask without image" else "/g.") in line
    harmless = {"mask without image", "all-zero mask"}
    if kind not in harmless:
        with pytest.raises(InputError, match=f"^{kind}: "):
            _ = [source.read(index) for source in splits.values() for index in range(len(source))]


def test_all_faults_are_told_at_once(tmp_path):
    root = make_folder(tmp_path / "data", {stem: two_objects() for stem in "abcdefgh"})
    (root / "images" / "a.png").write_bytes(b"")
    (root / "masks" / "a.png").write_bytes(b"")
    (root / "masks" / "b.png").unlink()
    save(root / "masks" / "c.png", two_objects((3, 3)))
    save(root / "masks" / "x.png", two_objects())
    with pytest.raises(InputError, match="5 problem") as error:
        check_sources(FolderSource(str(root)).splits())
    for kind in ("empty file (2)", "missing mask (1)", "size mismatch (1)", "mask without image (1)"):
        assert kind in str(error.value)


def test_a_mask_drawn_on_the_picture_before_it_was_turned_is_explained(tmp_path):
    make_folder(tmp_path)
    turned(tmp_path)
    with pytest.raises(InputError, match="the same turned by a quarter"):
        check_sources(FolderSource(str(tmp_path)).splits())


def moved(old, new):
    return lambda root: (root / old).rename(root / new)


def table(*lines):
    return lambda root: (root / "index.csv").write_text("\n".join(lines))


def lists(**names):
    return lambda root: [(root / f"{split}.txt").write_text(text) for split, text in names.items()]


KEYS = ["file"] + [f"p{number // 2}_{number}" for number in range(10)]
MISTAKES = {
    "no root": (moved("images", "../elsewhere"), {"root": "no/such"}, "no such folder"),
    "near name": (moved("images", "Image"), {}, "no folder .*images; did you mean Image"),
    "far name": (moved("masks", "annotation"), {}, "folders there: annotation, images"),
    "leaves the root": (None, {"images": "../images"}, "leads out of"),
    "linked split leaves": (
        lambda root: (
            moved("images", "../x")(root),
            (root / "images").mkdir(),
            (root / "images/val").symlink_to("../../x"),
        ),
        {},
        "leads out of",
    ),
    "same folder": (None, {"masks": "images"}, "overlap"),
    "no images": (lambda root: [p.rename(p.with_suffix(".npy")) for p in (root / "images").iterdir()], {}, "10 .npy"),
    "other names": (
        lambda root: [p.rename(p.with_name(f"{p.stem}_mask.png")) for p in (root / "masks").iterdir()],
        {},
        "none of the 10 images .* has a mask: .*_mask.png",
    ),
    "linked folder": (
        lambda root: (root / "images" / "more").symlink_to(root / "masks"),
        {},
        "link to a folder is not followed",
    ),
    "valid for val": (
        lambda root: [make_folder(root / "images" / split, {"1": two_objects()}) for split in ("train", "valid")],
        {},
        "split folders train and also valid",
    ),
    "split folders in other words": (
        lambda root: make_folder(root, {f"{split}/1": two_objects() for split in ("Training", "dev")}),
        {},
        "called Training, dev. If these are splits, call them train, val, test, or",
    ),
    "images beside split folders": (
        lambda root: [make_folder(root, {f"{split}/1": two_objects()}) for split in ("train", "val", "test")],
        {},
        "also images of its own, such as ",
    ),
    "not UTF-8": (
        moved("images/p0_0.png", os.fsdecode(b"images/Pr\xfcfling.png")),
        {},
        "fling.png' is not UTF-8, .* rename it",
    ),
    "folder not UTF-8": (
        lambda root: make_folder(root / os.fsdecode(b"images/Pr\xfcfling"), {"a": two_objects()}),
        {},
        r"Pr\\xfcfling/.* is not UTF-8, .* rename it",
    ),
    "objects": (None, {"objects": "label"}, "nearest: labels"),
    "no expression": (None, {"group_pattern": "("}, "no regular expression"),
    "no match": (None, {"group_pattern": "^q"}, "finds no group in 10 of 10 image names, such as 'p0_0'"),
    "two groupings": (None, {"group_pattern": "p", "group_column": "x"}, "give one of them"),
    "no table": (None, {"group_column": "patient"}, "index.csv: no such file"),
    "column": (table("file,patients", "p0_0,1"), {"group_column": "patient"}, "did you mean patients.* file, patients"),
    "no key": (table("slide,patient", "p0_0,1"), {"group_column": "patient"}, "no column names the image"),
    "missing row": (table("file,patient", "p0_0,1"), {"group_column": "patient"}, r"9 image\(s\) without .* p0_1"),
    "empty cell": (table(*[f"{k},{'patient' * (k == 'file')}" for k in KEYS]), {"group_column": "patient"}, "10 image"),
    "contradiction": (table("id,patient", "p0_0,1", "p0_0,2"), {"group_column": "patient"}, "'1' in one row and '2'"),
    "ragged": (table("id,patient", "p0_0,1,2"), {"group_column": "patient"}, "row 2 has 3 cells"),
    "no split": (table(*[f"{k},fold1" for k in KEYS]), {"split_column": "fold1"}, "holds fold1; expected only train"),
    "listed twice": (lists(train="p0_0\np0_1", val="p0_1"), {}, "val.txt, line 1: p0_1 is already in train.txt"),
    "unknown name": (lists(train="p0_0\nq0_1"), {}, "train.txt, line 2: no image 'q0_1'; nearest: p0_1"),
    "list leaves": (lists(train="../p0_0"), {}, "leads out of the images folder"),
    "no validation": (lists(train="p0_0", test="p0_1"), {}, "no images for val"),
    "two ways": (lists(train="p0_0"), {"split": [0.8, 0.1, 0.1]}, "data.split all say how to split"),
    "shared patient": (
        lists(train="p0_0", val="p0_1"),
        {"group_pattern": r"p\d"},
        "group 'p0' is in train .* and in val",
    ),
    "shares": (None, {"split": [0.8, 0.1]}, "shares of train, val and test"),
    "share": (None, {"split": 0.8}, "shares of train, val and test"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_when_the_folder_is_opened(tmp_path, mistake):
    change, options, message = MISTAKES[mistake]
    root = make_folder(tmp_path / "data")
    if change:
        change(root)
    with pytest.raises(InputError, match=message):
        FolderSource(**{"root": str(root), **options}).splits()


def linked(root):
    """A folder whose files are links into a store beside it."""
    store = make_folder(root.parent / "store")
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        for path in (store / name).iterdir():
            (root / name / path.name).symlink_to(path)
    return root


def test_links_into_a_store_are_followed_if_asked_to(tmp_path):
    root = linked(tmp_path / "data")
    with pytest.raises(InputError, match=r"link out of the data root \(10\): .*data.links=true"):
        check_sources(FolderSource(str(root)).splits())
    check_sources(FolderSource(str(root), links=True).splits())
    assert len(read_only(root, links=True)) == 10


def test_folders_that_are_links_are_followed_if_asked_to_but_not_in_circles(tmp_path):
    store, root = make_folder(tmp_path / "store"), tmp_path / "data"
    root.mkdir()
    for name in ("images", "masks"):
        (root / name).symlink_to(store / name)
        (store / name / "more").symlink_to(make_folder(tmp_path / "other") / name)
    with pytest.raises(InputError, match=r"leads out of .*, or set data.links=true"):
        FolderSource(str(root)).splits()
    with pytest.raises(InputError, match=r"a link to a folder is not followed; .* data.links=true"):
        FolderSource(str(store)).splits()
    assert len(read_only(root, links=True)) == 20
    with pytest.raises(InputError, match=r"leads out of .*; name a folder inside data.root$"):
        FolderSource(str(root), images="../store/images", links=True).splits()
    (store / "images" / "circle").symlink_to(store / "images")
    with pytest.raises(InputError, match=r"circle: a link to a folder that it lies in; remove it"):
        FolderSource(str(root), links=True).splits()
