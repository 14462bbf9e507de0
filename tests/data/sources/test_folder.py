"""Objects, splits and groups of images and masks in folders."""

import pickle
import random
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_train.data.loading.seeds import object_draws
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from tests.data.sources.folders import EVERYTHING, make_folder, picture, read_only, save, two_objects
from tests.data.sources.test_mask_pieces import pieces


def split_ids(root, **options):
    return {split: list(source.ids) for split, source in FolderSource(str(root), **options).splits().items()}


@settings(deadline=None)  # files take what they take
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int32]), (6, 7), elements=st.integers(0, 200)))
def test_every_number_of_a_label_image_is_an_object(tmp_path_factory, labels):
    root = tmp_path_factory.mktemp("data")
    save(root / "images" / "a.png", picture(labels.shape))
    save(root / "masks" / "a.tif", labels)
    (sample,) = read_only(root)
    assert sample.value.tolist() == sorted(set(labels[labels > 0].tolist()))
    for mask, value in zip(sample.masks().numpy(), sample.value.tolist(), strict=True):
        np.testing.assert_array_equal(mask, labels == value)


def test_choose_sees_areas_and_decides_what_is_read_and_in_which_order(tmp_path):
    source = FolderSource(str(make_folder(tmp_path, {"a": two_objects()})), **EVERYTHING).splits()["test"]
    seen = []
    sample = source.read(0, lambda shares: (seen.append(shares), torch.tensor([1, 0]))[1])
    assert (seen[0] * 12 * 16).tolist() == [12, 6]
    assert sample.value.tolist() == [200, 3]
    assert sample.masks().sum((1, 2)).tolist() == [6, 12]


def test_labels_may_be_large_numbers(tmp_path):
    labels = np.zeros((5, 6), np.int32)
    labels[1, 1:4], labels[3] = 2**31 - 1, 70_000
    save(tmp_path / "images" / "a.png", picture((5, 6)))
    save(tmp_path / "masks" / "a.tif", labels)
    (sample,) = read_only(tmp_path)
    assert sample.masks().sum((1, 2)).tolist() == [6, 3]


@settings(deadline=None)  # files take what they take
@given(hnp.arrays(bool, (7, 8)))
def test_components_are_the_connected_pieces(tmp_path_factory, mask):
    root = make_folder(tmp_path_factory.mktemp("data"), {"a": mask * np.uint8(255)})
    (sample,) = read_only(root, objects="components")
    found = [frozenset(tuple(at) for at in np.argwhere(part)) for part in sample.masks().numpy()]
    assert set(found) == pieces(mask)
    assert len(set(found)) == len(found)


def test_binary_is_one_object(tmp_path):
    (sample,) = read_only(make_folder(tmp_path, {"a": two_objects()}), objects="binary")
    np.testing.assert_array_equal(sample.masks().numpy(), [two_objects() > 0])


def test_files_of_objects_that_do_not_touch_share_a_plane(tmp_path):
    save(tmp_path / "images" / "a.png", picture())
    for name, mask in {"x": two_objects() == 200, "y": two_objects() == 3, "z": two_objects() > 0}.items():
        save(tmp_path / "masks" / "a" / f"{name}.png", mask)
    (sample,) = read_only(tmp_path)
    assert sample.plane.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(sample.masks().numpy(), [two_objects() == 200, two_objects() == 3, two_objects() > 0])


def test_a_folders_name_may_be_a_number(tmp_path, monkeypatch):
    make_folder(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert sum(map(len, FolderSource(2024).splits().values())) == 10


@pytest.mark.parametrize("layout", ["masks/a/{}.png", "masks/a__{}.png"])
def test_one_file_per_object(tmp_path, layout):
    labels = two_objects()
    save(tmp_path / "images" / "a.png", picture())
    for name, mask in {"x": labels == 200, "y": labels > 0, "z": labels == 3}.items():
        save(tmp_path / layout.format(name), mask * np.uint8(255))
    (sample,) = read_only(tmp_path, objects="components")
    np.testing.assert_array_equal(sample.masks().numpy(), [labels == 200, labels > 0, labels == 3])


def test_files_of_objects_that_are_not_chosen_are_not_opened(tmp_path):
    save(tmp_path / "images" / "a.png", picture())
    for number in range(3):
        save(tmp_path / "masks" / "a" / f"{number}.png", two_objects())
    for number in (0, 2):
        (tmp_path / "masks" / "a" / f"{number}.png").write_bytes(b"no image")
    source = FolderSource(str(tmp_path), **EVERYTHING).splits()["test"]
    seen = []
    sample = source.read(0, lambda areas: (seen.append(areas), torch.tensor([1]))[1])
    assert len(sample.value) == 1
    assert seen[0].isnan().tolist() == [True] * 3
    with pytest.raises(InputError, match=r"0\.png"):
        source.read(0)


def test_an_object_in_a_file_of_its_own_has_the_same_draws_whatever_else_is_read(tmp_path):
    save(tmp_path / "images" / "a.png", picture())
    for number in range(3):
        save(tmp_path / "masks" / "a" / f"{number}.png", np.eye(12, 16, k=number, dtype=np.uint8))
    source = FolderSource(str(tmp_path), **EVERYTHING).splits()["test"]
    whole, last = source.read(0), source.read(0, lambda areas: torch.tensor([2]))
    assert torch.equal(last.masks()[0], whole.masks()[2])
    assert torch.equal(object_draws("a", last.value)[0], object_draws("a", whole.value)[2])


def test_a_copy_is_recognized_and_a_change_of_the_file_noticed(tmp_path):
    make_folder(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    here, there = (FolderSource(str(tmp_path / name), **EVERYTHING).splits()["test"] for name in ("here", "there"))
    assert here.identity(0) == there.identity(0) != here.identity(1)
    before = here.fingerprint(0)
    save(tmp_path / "here" / "images" / f"{here.ids[0]}.png", picture(seed=99))
    assert here.identity(0) != there.identity(0)
    assert here.fingerprint(0) != before


def test_an_image_is_the_same_in_whatever_folder_it_lies(tmp_path):
    for split in ("train", "val"):
        make_folder(tmp_path / split, {"1": two_objects()})
    whole = FolderSource(str(tmp_path / "train"), **EVERYTHING).splits()["test"]
    with pytest.warns(UserWarning, match="no images for the test"):
        part = FolderSource(str(tmp_path)).splits()["train"]
    assert whole.ids != part.ids
    assert whole.identity(0) == part.identity(0)


def test_smoothed_labels_are_a_problem_and_thin_objects_none(tmp_path):
    rows, columns = np.mgrid[:64, :64]
    distance = np.hypot(rows - 32, columns - 32)
    make_folder(tmp_path / "soft", {"a": np.clip((20.5 - distance) * 80, 0, 255).astype(np.uint8)})
    with pytest.raises(InputError, match=r"soft edges \(1\): .*nearest neighbor"):
        check_sources(FolderSource(str(tmp_path / "soft"), **EVERYTHING).splits())
    thin = np.zeros((64, 64), np.uint8)
    thin[::8, 5:50] = 1
    thin[20:30, 30:40], thin[40:50, 30:40], thin[40:50, 50:60] = 2, 3, 4
    lines, specks = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    lines[::8, 5:50] = np.arange(1, 9)[:, None]
    specks[10:20, 10:20], specks[30:40, 10:20] = 1, 2
    specks[[50, 52, 54, 56, 58], 40] = np.arange(3, 8)
    make_folder(tmp_path / "hard", {"a": thin, "b": two_objects(), "c": lines, "d": specks})
    check_sources(FolderSource(str(tmp_path / "hard"), **EVERYTHING).splits())


@pytest.mark.parametrize("options", [{}, {"objects": "components"}, {"objects": "binary"}])
def test_one_number_of_many_pieces_is_asked_about_if_that_is_the_rule(tmp_path, options):
    labels = np.zeros((20, 20), np.uint8)
    labels[1::4, 1::4] = 255
    make_folder(tmp_path, {"1": labels})
    expected = r"one number, many pieces .*data.objects=components(.|\n)*25 separate"
    with nullcontext() if options else pytest.raises(InputError, match=expected):
        check_sources(FolderSource(str(tmp_path), **EVERYTHING, **options).splits())
    make_folder(tmp_path, {"2": two_objects((20, 20)), "3": two_objects((20, 20))})
    if not options:
        check_sources(FolderSource(str(tmp_path), **EVERYTHING).splits())


def test_an_image_owns_its_namesake_before_any_other_mask(tmp_path):
    for stem in ("a", "a/b", "a__b"):
        save(tmp_path / "images" / f"{stem}.png", picture())
    for stem, value in {"a/b": 2, "a__b": 3, "a__c": 4, "a__b__d": 5}.items():
        save(tmp_path / "masks" / f"{stem}.png", np.full((12, 16), value, np.uint8))
    (tmp_path / "masks" / "a__b__d.png").unlink()
    a, a_b, a__b = read_only(tmp_path)
    assert (a.id, a_b.id, a__b.id) == ("a", "a/b", "a__b")
    assert (a.value.tolist(), a_b.value.tolist(), a__b.value.tolist()) == ([1], [2], [3])


def test_an_image_without_objects_is_a_sample_without_objects(tmp_path):
    save(tmp_path / "images" / "files.png", picture())
    save(tmp_path / "masks" / "files" / "0.png", np.zeros((12, 16), np.uint8))
    make_folder(tmp_path, {"labels": np.zeros((12, 16), np.uint8)})
    for sample in read_only(tmp_path, allow_empty=True):
        assert sample.masks().shape == (0, 12, 16)
        assert sample.labels.shape == (1, 12, 16)


def test_pairs_need_not_have_the_same_suffix_and_may_lie_in_sub_folders(tmp_path):
    save(tmp_path / "images" / "p1" / "x.y.jpg", picture())
    save(tmp_path / "masks" / "p1" / "x.y.tif", two_objects())
    (tmp_path / "images" / "p1" / "._x.y.jpg").write_bytes(b"what some systems leave behind")
    (tmp_path / "images" / "p1" / "notes.md").write_text("no image")
    (sample,) = read_only(tmp_path)
    assert sample.id == "p1/x.y"


def test_loading_workers_get_copies(tmp_path):
    source = FolderSource(str(make_folder(tmp_path))).splits()["train"]
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy.read(1).labels, source.read(1).labels)


def test_the_split_does_not_depend_on_the_order_of_files(tmp_path):
    stems = [f"{number}" for number in range(20)]
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, order in zip(roots, (stems, random.Random(0).sample(stems, 20)), strict=True):
        make_folder(root, {stem: two_objects() for stem in order})
    first, second = (split_ids(root) for root in roots)
    assert first == second
    assert {split: len(ids) for split, ids in first.items()} == {"train": 14, "val": 3, "test": 3}
    assert split_ids(roots[0], split_seed=1) != first


def test_groups_come_from_names_or_the_table_and_stay_together(tmp_path):
    make_folder(tmp_path)
    rows = [f"images/p{number // 2}_{number}.png;p{number // 2}" for number in range(10)]
    (tmp_path / "index.csv").write_text("\n".join(["Image;patient", *reversed(rows)]), encoding="utf-8-sig")
    for options in ({"group_pattern": r"^(p\d+)_"}, {"group_pattern": r"^p\d+"}, {"group_column": "patient"}):
        splits = FolderSource(str(tmp_path), **options).splits()
        groups = [group for source in splits.values() for group in {name.split("_")[0] for name in source.ids}]
        assert sorted(groups) == [f"p{number}" for number in range(5)]


def test_a_column_of_the_table_splits(tmp_path):
    make_folder(tmp_path)
    rows = [f"p{number // 2}_{number},{('train', 'val', 'test')[number % 3]}" for number in range(10)]
    (tmp_path / "index.csv").write_text("\n".join(["id,set", *rows]))
    found = split_ids(tmp_path, split_column="set")
    assert found["val"] == ["p0_1", "p2_4", "p3_7"]
    assert len(found["train"]) == 4


def test_lists_split_and_select(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train.txt").write_text("p0_0\n\nimages/p0_1.png\n")
    (tmp_path / "val.txt").write_text("p1_2.png\r\n")
    (tmp_path / "test.txt").write_text("p1_3")
    assert split_ids(tmp_path) == {"train": ["p0_0", "p0_1"], "val": ["p1_2"], "test": ["p1_3"]}


def test_split_folders_are_recognized(tmp_path):
    for split in ("train", "val", "test"):
        make_folder(tmp_path / "a" / split, {"1": two_objects()})
        make_folder(tmp_path / "b", {f"{split}/1": two_objects()})
    for root in (tmp_path / "a", tmp_path / "b"):
        assert split_ids(root) == {"train": ["train/1"], "val": ["val/1"], "test": ["test/1"]}


def test_validation_serves_as_test_only_with_a_warning(tmp_path):
    for split in ("train", "val"):
        make_folder(tmp_path / split, {"1": two_objects()})
    with pytest.warns(UserWarning, match="no images for the test"):
        splits = FolderSource(str(tmp_path)).splits()
    assert splits["test"] is splits["val"]
