"""What is accepted is on disk at once, in a folder that training reads as it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.app.folder import require_own_folder
from sam_train.app.objects import LabeledObject, lengths_of
from sam_train.app.pictures import pictures_in_folder
from sam_train.app.saving import ConflictError, SavedLabels
from sam_train.data.sources.base import all_objects
from sam_train.data.sources.coco.source import CocoSource
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from tests.app.conftest import SIZE, disc

pytestmark = pytest.mark.filterwarnings("ignore:.*no images for the test")


def labeled(mask: np.ndarray, category: str = "disc", clicks: int = 1) -> LabeledObject:
    return LabeledObject(lengths_of(torch.from_numpy(mask)), category, clicks)


@pytest.fixture
def labels(photos, tmp_path):
    def opened():
        return SavedLabels(tmp_path / "labels", pictures_in_folder(photos)[0], str(photos))

    return opened


def read_all(source) -> dict:
    found = {}
    for images in source.splits().values():
        for index, name in enumerate(images.ids):
            sample = images.read(index, all_objects)
            found[name] = (sample.masks().numpy(), sample.category)
    return found


def test_accepted_images_are_a_folder_that_trains_with_the_same_masks(labels, tmp_path):
    saved = labels()
    for index in range(3):
        saved.accept(f"{index}.png", SIZE, [labeled(disc(20, 24)), labeled(disc(48, 20, 7), "other")], None)
    found = read_all(FolderSource(str(tmp_path / "labels")))
    assert sorted(found) == ["0", "1", "2"]
    for masks, _ in found.values():
        np.testing.assert_array_equal(masks, [disc(20, 24), disc(48, 20, 7)])


def test_names_of_objects_are_in_a_coco_file_beside_it(labels, tmp_path):
    saved = labels()
    for index in range(3):
        saved.accept(f"{index}.png", SIZE, [labeled(disc(20, 24), "cell"), labeled(disc(48, 20, 7), "")], None)
    found = read_all(CocoSource(str(tmp_path / "labels")))
    assert len(found) == 3
    for masks, categories in found.values():
        np.testing.assert_array_equal(masks, [disc(20, 24), disc(48, 20, 7)])
        assert categories == ("cell", "object")


def test_a_new_server_goes_on_with_what_was_accepted(labels):
    labels().accept("0.png", SIZE, [labeled(disc(20, 24), "cell", 3)], None)
    again = labels()
    assert [again.is_saved(name) for name in ("0.png", "1.png")] == [True, False]
    (kept,) = again.objects("0.png")
    assert kept == labeled(disc(20, 24), "cell", 3)
    assert again.clicks() == [(0, 1, 3)]
    assert again.categories() == ["cell"]


@pytest.mark.parametrize("lost", ["images/0.png", "masks/0.png", "instances.json"])
def test_a_server_killed_between_two_files_has_lost_nothing(labels, tmp_path, lost):
    labels().accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    path = tmp_path / "labels" / lost
    before = path.read_bytes()
    path.unlink()
    labels()
    assert path.read_bytes() == before


def test_a_server_killed_after_the_record_of_a_second_accept_completes_that(labels, tmp_path):
    saved = labels()
    revision = saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    old = (tmp_path / "labels/masks/0.png").read_bytes()
    saved.accept("0.png", SIZE, [labeled(disc(20, 24, 5))], revision)
    (tmp_path / "labels/masks/0.png").write_bytes(old)
    os.utime(tmp_path / "labels/masks/0.png", (1, 1))
    labels()
    with Image.open(tmp_path / "labels/masks/0.png") as mask:
        np.testing.assert_array_equal(np.array(mask) > 0, disc(20, 24, 5))


def test_accepting_without_objects_takes_an_image_back(labels, tmp_path):
    saved = labels()
    revision = saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    assert saved.accept("0.png", SIZE, [], revision) is None
    assert not saved.is_saved("0.png")
    assert not [*(tmp_path / "labels").glob("*/0.*")]
    assert not labels().is_saved("0.png")


def test_two_people_do_not_overwrite_each_other_unknowingly(labels):
    saved = labels()
    saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    with pytest.raises(ConflictError, match=r"0\.png: was accepted in another window meanwhile"):
        saved.accept("0.png", SIZE, [labeled(disc(20, 24, 5))], None)
    saved.accept("0.png", SIZE, [labeled(disc(20, 24, 5))], saved.revision("0.png"))


def test_masks_are_whole_where_they_overlap_and_the_smaller_is_seen(labels, tmp_path):
    saved = labels()
    saved.accept("0.png", SIZE, [labeled(disc(20, 24, 4)), labeled(disc(20, 24, 10)), labeled(disc(0, 0, -1))], None)
    assert saved.objects("0.png")[1] == labeled(disc(20, 24, 10))
    with Image.open(tmp_path / "labels/masks/0.png") as mask:
        np.testing.assert_array_equal(np.array(mask) == 1, disc(20, 24, 4))


def test_images_of_one_name_in_two_folders_and_photographs_that_are_turned_fit_their_masks(photos, tmp_path):
    for folder in ("a", "b"):
        (photos / folder).mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        Image.new("RGB", SIZE).save(photos / folder / "x__1.jpg", exif=exif)
    (photos / "a-x-1.png").write_bytes((photos / "0.png").read_bytes())
    pictures, _ = pictures_in_folder(photos)
    saved = SavedLabels(tmp_path / "labels", pictures, str(photos))
    names = ["a/x__1.jpg", "b/x__1.jpg", "a-x-1.png"]
    for name in names:
        picture = next(one for one in pictures if one.name == name)
        size = tuple(picture.pixels().shape[1:])
        assert size == SIZE
        saved.accept(name, size, [labeled(disc(20, 24))], None)
    assert len(read_all(FolderSource(str(tmp_path / "labels")))) == 3


@pytest.mark.parametrize("lengths", [[5], [-1, SIZE[0] * SIZE[1] + 1], [SIZE[0] * SIZE[1], 1]])
def test_a_mask_of_another_size_is_refused_and_nothing_is_written(labels, tmp_path, lengths):
    with pytest.raises(InputError, match="for an image of 48 x 64"):
        labels().accept("0.png", SIZE, [LabeledObject(lengths)], None)
    assert not (tmp_path / "labels/images").exists()


def test_runs_of_no_pixel_change_nothing(labels):
    saved = labels()
    total = SIZE[0] * SIZE[1]
    saved.accept("0.png", SIZE, [LabeledObject([0, 7, 0, 3, total - 10, 0])], None)
    assert saved.objects("0.png")[0].lengths == [0, 10, total - 10]


def test_a_folder_of_something_else_is_refused(tmp_path):
    folder = tmp_path / "set"
    (folder / "masks").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds masks that sam-app did not make; name another folder, and open these"):
        require_own_folder(folder, "photos")


def test_a_folder_of_other_images_labels_is_refused(labels, tmp_path):
    labels()
    with pytest.raises(InputError, match=r"holds labels of .*photos, not of elsewhere"):
        require_own_folder(tmp_path / "labels", "elsewhere")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output=.*file: a file; name a folder"):
        require_own_folder(tmp_path / "file", "photos")
    with pytest.raises(InputError, match=r"cannot be written"):
        require_own_folder(tmp_path / "file" / "labels", "photos")
    with pytest.raises(InputError, match=r"cannot be written"):
        require_own_folder(Path("/proc/labels"), "photos")


def test_a_record_that_is_none_is_named(labels, tmp_path):
    labels().accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    (tmp_path / "labels/objects/0.json").write_text(json.dumps({"objects": []}))
    with pytest.raises(InputError, match=r"0\.json: sam-app did not write that"):
        labels()


@pytest.mark.parametrize("place", ["../photos/0.png", "/etc/passwd", "images/../../photos/0.png", "images/..", 7])
def test_a_record_never_names_a_file_elsewhere(labels, photos, tmp_path, place):
    labels().accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    record = tmp_path / "labels/objects/0.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "file_name": place}))
    with pytest.raises(InputError, match=r"0\.json: sam-app did not write that"):
        labels()


def test_a_damaged_mark_is_named(labels, tmp_path):
    labels()
    (tmp_path / "labels/sam-app.json").write_text("[")
    with pytest.raises(InputError, match=r"sam-app\.json: sam-app did not write that; delete it if"):
        require_own_folder(tmp_path / "labels", "photos")


def test_an_image_that_could_not_be_written_is_not_accepted(labels, tmp_path, monkeypatch):
    saved = labels()
    with monkeypatch.context() as patched:

        def full(path, durable=False):
            raise OSError(28, "No space left on device")

        patched.setattr("sam_train.app.saving.written_whole", full)
        with pytest.raises(InputError, match=r"0\.png: cannot be written in .*labels \(No space left on device\)"):
            saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    assert not saved.is_saved("0.png")
    assert saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None) is not None


def test_an_image_that_has_changed_is_accepted_as_it_is_now(labels, photos, tmp_path):
    saved = labels()
    revision = saved.accept("0.png", SIZE, [labeled(disc(20, 24))], None)
    Image.new("RGB", SIZE[::-1], "red").save(photos / "0.png", format="JPEG")
    saved.accept("0.png", SIZE, [labeled(disc(20, 24))], revision)
    assert [path.name for path in (tmp_path / "labels/images").iterdir()] == ["0.jpg"]
    assert (tmp_path / "labels/images/0.jpg").read_bytes() == (photos / "0.png").read_bytes()


def test_who_looks_while_another_accepts_sees_what_was_there(labels):
    """Requests are answered by threads."""
    saved = labels()
    saved.accept("0.png", SIZE, [labeled(disc(20, 24), "a")], None)
    saved.accept("1.png", SIZE, [labeled(disc(20, 24), "b")], None)
    for _ in saved._now():
        saved._records["another"] = saved._records["0.png"]
    assert saved.categories() == ["a", "b"]
