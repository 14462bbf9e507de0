"""What a check finds in folders that are known to the last pixel."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sam_train.curation import parallel
from sam_train.curation.check import check_data
from sam_train.curation.page import write_check
from sam_train.curation.suspicions import Suspicion
from sam_train.curation.tables import show
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.preprocessing import Preprocessing
from tests.data.sources.coco_files import content, make_coco

INPUT = Preprocessing(image_size=128, resize="square")


def write(root, split, name, labels, seed, kind="png"):
    """Write an image of noise of 64 x 64 and its mask."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)
    for folder in ("images", "masks"):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    image.save(root / split / "images" / f"{name}.{kind}")
    Image.fromarray(labels).save(root / split / "masks" / f"{name}.png")


def labels(*boxes):
    found = np.zeros((64, 64), np.uint8)
    for number, (top, left, side) in enumerate(boxes, start=1):
        found[top : top + side, left : left + side] = number
    return found


@pytest.fixture
def root(tmp_path):
    for number in range(6):
        write(tmp_path, "train", f"t{number}", labels((4, 4, 20), (40, 40, 1)), number)
    for number in range(6, 9):
        write(tmp_path, "val", f"v{number}", labels((4, 4, 10)), number)
    return tmp_path


def checked(root, min_area=16, **settings):
    return check_data(FolderSource(str(root), **settings), INPUT, min_area)


@pytest.mark.filterwarnings("ignore:.*those of val serve")
def test_images_and_objects_are_counted_and_measured_in_the_models_input(root):
    summary = checked(root).summary
    train, val = summary.splits["train"], summary.splits["val"]
    assert list(summary.splits) == ["train", "val"]  # the test is val
    assert (train.images, train.sizes) == (6, ((64, 64),) * 3)
    assert train.counts == (12, 0, 6, pytest.approx(np.sqrt(np.median([4, 1600]))))  # 64 pixels become 128
    assert val.counts == (3, 0, 0, 20.0)
    assert summary.sides.tolist() == [6, 0, 0, 3, 6, 0, 0, 0]
    assert checked(root, min_area=4).summary.splits["train"].counts.too_small == 0


def test_every_broken_file_is_named_and_the_others_are_counted(root):
    for name in ("t1", "t4"):
        path = root / "train" / "images" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:60])
    found = checked(root)
    assert {problem.path.name for problem in found.findings.problems} == {"t1.png", "t4.png"}
    assert found.summary.splits["train"].images == 4
    assert found.scan.name(3) == "train/t5"


def test_copies_in_two_splits_are_told_by_file_by_pixels_and_by_look(root):
    (root / "val" / "images" / "v6.png").write_bytes((root / "train" / "images" / "t0.png").read_bytes())
    write(root, "val", "v7", labels((4, 4, 10)), 1, kind="bmp")
    (root / "val" / "images" / "v7.png").unlink()
    with Image.open(root / "train" / "images" / "t2.png") as image:
        image.resize((48, 48)).resize((64, 64)).save(root / "val" / "images" / "v8.png")
    found = checked(root)
    (problem,) = found.findings.problems
    assert problem.path.name == "t0"
    assert "the val image val/v6" in problem.found
    names = [[tuple(map(found.scan.name, pair)) for pair in pairs] for pairs in (found.copies, found.alike)]
    assert names == [[("train/t1", "val/v7")], [("train/t2", "val/v8")]]


def test_an_image_repeated_in_its_split_is_counted(root):
    write(root, "train", "again", labels((4, 4, 20)), 3)
    found = checked(root)
    assert found.num_repeated == 1
    assert not found.findings.problems


def test_objects_of_a_coco_file_are_counted_by_category_and_crowds_apart(tmp_path):
    what = content(4)
    what["annotations"][0]["iscrowd"] = 1
    make_coco(tmp_path, what)
    summary = check_data(CocoSource(str(tmp_path), split=(0, 0, 1)), INPUT, 16).summary
    found = {name: (each["test"], counts.crowds) for name, (each, counts) in summary.categories.items()}
    assert found == {"leaf": (3, 1), "stem": (2, 0)}
    assert summary.splits["test"].without == 0


def test_processes_change_nothing(root, monkeypatch):
    alone = checked(root)
    monkeypatch.setattr(parallel, "num_processors", lambda: 2)
    monkeypatch.setattr("sam_train.curation.scan._IMAGES_PER_TASK", 2)
    shared = checked(root)
    assert np.array_equal(alone.scan.objects, shared.scan.objects)
    assert np.array_equal(alone.scan.images, shared.scan.images)


def test_the_page_names_all_files_and_shows_what_is_suspected(root, tmp_path):
    for number in range(20, 40):
        write(root, "train", f"<b>{number}", labels((4, 4, 20)), number)
        (root / "train" / "masks" / f"<b>{number}.png").write_bytes(b"no mask")
    found = checked(root)
    assert list(found.suspects) == [Suspicion.RECTANGLE]
    write_check(tmp_path / "page.html", found, {"data": str(root)})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(f"&lt;b&gt;{number}.png" in page for number in range(20, 40))
    assert page.count("data:image/jpeg") == 8
    assert "://" not in page
    assert "<script" not in page
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    show(found, console, 128)
    text = console.file.getvalue()
    assert "... and 10 more" in text
    assert "6 of 15 objects are below loader.min_area in the model's input and left out: a larger" in text
    assert "rectangles (9): a mask that fills its box" in text
