"""A second start reads no volume that has not changed; nnU-Net's test folders are the test."""

import os

import pytest

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.npz.source import NpzSource
from sam_train.data.sources.volume import opening, source
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from tests.data.sources.test_npz import make as make_arrays
from tests.data.sources.volume_files import AFFINE, labels, make_volumes, save_nifti, voxels


@pytest.fixture
def read(monkeypatch):
    """Names of the label volumes and volumes that are read."""
    seen = []
    for module in (source, opening):
        original = module.read_labels
        monkeypatch.setattr(
            module, "read_labels", lambda case, *rest, of=original: (seen.append(case.id), of(case, *rest))[1]
        )
    return seen


def start(root, index, **options):
    splits = VolumeSource(str(root), index=index, **options).splits()
    check_sources(splits)
    return {name: list(images.ids) for name, images in splits.items()}


def test_a_second_start_reads_only_what_has_changed(tmp_path, read):
    root, index = make_volumes(tmp_path / "data"), str(tmp_path / "index")
    first = start(root, index)
    assert sorted(read) == sorted([f"p{number // 2}_{number}" for number in range(6)] * 2)  # slices, then the check
    read.clear()
    assert start(root, index) == first
    assert read == []
    assert start(root, None) == first
    assert len(read) == 12
    read.clear()
    changed = labels()
    changed[3, 3, 7] = 1
    path = save_nifti(root / "labelsTr" / "p1_2.nii.gz", changed)
    os.utime(path, ns=(0, 0))
    again = start(root, index)
    assert read == ["p1_2"] * 2
    assert "p1_2/axial_0007" in [name for names in again.values() for name in names]
    read.clear()
    start(root, index, axis="coronal")
    assert len(read) == 12
    read.clear()
    for damaged in (tmp_path / "index").iterdir():
        damaged.write_text('{"places": [0')
    assert start(root, index) == again
    assert len(read) == 12


def test_what_is_wrong_is_told_at_every_start(tmp_path, read):
    root, index = make_volumes(tmp_path / "data"), str(tmp_path / "index")
    save_nifti(root / "labelsTr" / "p0_0.nii.gz", labels((9, 9, 9)))
    for _ in range(2):
        with pytest.raises(InputError, match="labels of another volume"):
            start(root, index)


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    root = make_volumes(tmp_path / "data")
    assert start(root, str(tmp_path / "file")) == start(root, None)


def test_arrays_are_not_read_again(tmp_path):
    make_arrays(tmp_path)
    index = str(tmp_path / "index")
    first, second = (NpzSource(str(tmp_path), index=index, split=(0.5, 0.25, 0.25)).splits() for _ in range(2))
    assert [list(images.ids) for images in first.values()] == [list(images.ids) for images in second.values()]
    assert len(list((tmp_path / "index").iterdir())) == 8


def test_the_test_folders_of_nnu_net_are_the_test(tmp_path):
    root = make_volumes(tmp_path)
    for index in range(2):
        save_nifti(root / "imagesTs" / f"q{index}.nii.gz", voxels(10 + index))
        save_nifti(root / "labelsTs" / f"q{index}.nii.gz", labels())
    found = start(root, None, split=(0.6, 0.2, 0.2))
    volumes = {name: sorted({one.partition("/")[0] for one in ids}) for name, ids in found.items()}
    assert volumes["test"] == ["q0", "q1"]
    assert sorted(volumes["train"] + volumes["val"]) == [f"p{number // 2}_{number}" for number in range(6)]
    assert len(volumes["train"]) > len(volumes["val"]) > 0
    save_nifti(root / "imagesTs" / "p0_7.nii.gz", voxels(20), AFFINE)
    save_nifti(root / "labelsTs" / "p0_7.nii.gz", labels())
    with pytest.raises(InputError, match="group 'p0' is in"):
        start(root, None, group_pattern="^.[0-9]")
