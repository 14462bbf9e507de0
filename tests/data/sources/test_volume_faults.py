"""Each fault of a volume is named with its file and a remedy, all of a set at once."""

import numpy as np
import pytest

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.volume import reading
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import FileError, InputError
from tests.data.sources.volume_files import AFFINE, describe, labels, make_volumes, save_nifti, voxels


def checked(root, **options):
    check_sources(VolumeSource(str(root), split=(0, 0, 1), **options).splits())


def nan_voxels(root):
    content = voxels().astype(np.float32)
    content[0, 0, 0] = np.nan
    save_nifti(root / "imagesTr" / "p0_0.nii.gz", content)


def other_shape(root):
    save_nifti(root / "labelsTr" / "p0_0.nii.gz", labels()[:-1])


def other_place(root):
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.0
    save_nifti(root / "labelsTr" / "p0_0.nii.gz", labels(), shifted)


def soft_labels(root):
    save_nifti(root / "labelsTr" / "p0_0.nii.gz", labels() * np.float32(0.5))


def negative_labels(root):
    save_nifti(root / "labelsTr" / "p0_0.nii.gz", labels().astype(np.int16) - 1)


def cut_short(root):
    path = root / "imagesTr" / "p0_0.nii.gz"
    path.write_bytes(path.read_bytes()[:500])


def labels_cut_short(root):
    path = root / "labelsTr" / "p0_0.nii.gz"
    path.write_bytes(path.read_bytes()[:60])


def no_labels(root):
    (root / "labelsTr" / "p0_0.nii.gz").unlink()


def no_volume(root):
    (root / "imagesTr" / "p0_0.nii.gz").unlink()


def two_labels(root):
    save_nifti(root / "labelsTr" / "p0_0.nii", labels())


FAULTS = {
    nan_voxels: "1 of 960 voxels are no finite number",
    other_shape: "9 x 12 x 8 voxels, not 10 x 12 x 8",
    other_place: r"its voxels lie up to 1\.0 voxels elsewhere",
    soft_labels: r"holds 0\.5, where each voxel should be the whole number",
    negative_labels: "holds -1 to 1, where 0 is background",
    cut_short: "unreadable volume",
    labels_cut_short: "unreadable volume",
    no_labels: "volume without labels",
    no_volume: "labels without volume",
    two_labels: "duplicate name",
}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_with_a_volume_is_named(tmp_path, spoil):
    make_volumes(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=rf"the data has 1 problem\(s\)[\s\S]*{FAULTS[spoil]}") as error:
        checked(tmp_path)
    assert "p0_0.nii" in str(error.value)
    with pytest.raises(FileError, match=FAULTS[spoil]):
        VolumeSource(str(tmp_path), split=(0, 0, 1), check=False).splits()["test"].read(0)


def test_a_description_leads_nowhere_outside_the_root(tmp_path):
    make_volumes(tmp_path)
    for name in ("../a.nii.gz", "/etc/a.nii.gz"):
        describe(tmp_path, labels={}, training=[{"image": name, "label": "labelsTr/p0_0.nii.gz"}])
        with pytest.raises(InputError, match=r"dataset\.json: training=.*leads out of data\.root"):
            checked(tmp_path)
    describe(tmp_path, labels={}, training=[{"image": "imagesTr/gone.nii.gz", "label": "labelsTr/p0_0.nii.gz"}])
    with pytest.raises(InputError, match=r"missing file[\s\S]*gone\.nii\.gz: dataset\.json names it"):
        checked(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {')
    with pytest.raises(InputError, match=r"damaged dataset\.json"):
        checked(tmp_path)


def test_volumes_without_labels_are_left_out_and_counted(tmp_path):
    make_volumes(tmp_path)
    save_nifti(tmp_path / "labelsTr" / "p0_0.nii.gz", labels() * 0)
    with pytest.warns(UserWarning, match=r"1 of 6 volumes have no label, such as p0_0; left out"):
        checked(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "oblique"}, r"data\.axis=oblique: expected one of axial, coronal, sagittal, thick"),
        ({"objects": "binary"}, r"data\.objects=binary: expected one of labels, components"),
        ({"channels": [1, 2]}, r"data\.channels=\[1, 2\]: expected one or three"),
        ({"neighbors": True, "channels": [1, 2, 3]}, "both say what is red, green and blue"),
        ({"percentiles": [99, 1]}, r"data\.percentiles=\[99, 1\]"),
        ({"open_volumes": 0}, r"data\.open_volumes=0"),
        ({"images": "imagesTr"}, "give both or none"),
        ({"images": "a", "labels": "b"}, "no folders a and b"),
        ({"categories": "left"}, r"expected names in brackets, as \[left\]"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        checked(make_volumes(tmp_path), **options)


def test_a_folder_without_volumes_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"no volumes with labels: expected folders imagesTr and labelsTr"):
        checked(tmp_path)


def test_what_is_not_installed_is_named_before_anything_is_read(tmp_path, monkeypatch):
    find = reading.find_spec
    monkeypatch.setattr(reading, "find_spec", lambda name: None if name == "highdicom" else find(name))
    with pytest.raises(InputError, match=r"volumes need highdicom: pip install 'sam-train\[volumes\]'"):
        checked(make_volumes(tmp_path))


def test_cases_of_a_list_are_told_apart_by_their_folders(tmp_path):
    pairs = []
    for case in ("case1", "case2", "case3", "case4"):
        save_nifti(tmp_path / "cohort" / case / "image.nii.gz", voxels(1))
        save_nifti(tmp_path / "cohort" / case / "label.nii.gz", labels())
        pairs.append({"image": f"./cohort/{case}/image.nii.gz", "label": f"./cohort/{case}/label.nii.gz"})
    describe(tmp_path, training=pairs)
    splits = VolumeSource(str(tmp_path), split=(0.5, 0.25, 0.25)).splits()
    groups = [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sorted(map(len, groups)) == [1, 1, 2]
    assert set().union(*groups) == {f"case{number}/image" for number in (1, 2, 3, 4)}
    describe(tmp_path, training=[*pairs, pairs[0]])
    with pytest.raises(InputError, match="lists case1/image more than once"):
        VolumeSource(str(tmp_path)).splits()


def test_a_list_of_nnu_net_means_files_of_channels(tmp_path):
    save_nifti(tmp_path / "imagesTr" / "h_000_0000.nii.gz", voxels(1))
    save_nifti(tmp_path / "labelsTr" / "h_000.nii.gz", labels())
    describe(tmp_path, training=[{"image": "./imagesTr/h_000.nii.gz", "label": "./labelsTr/h_000.nii.gz"}])
    images = VolumeSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert images.ids[0].startswith("h_000/")
    assert images.read(0).image.any()


def test_links_of_a_list_do_not_lead_out(tmp_path):
    make_volumes(tmp_path / "elsewhere", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    name = "p0_0.nii.gz"
    describe(tmp_path / "data", training=[{"image": f"link/imagesTr/{name}", "label": f"link/labelsTr/{name}"}])
    with pytest.raises(InputError, match=r"leads out of data\.root"):
        VolumeSource(str(tmp_path / "data")).splits()
