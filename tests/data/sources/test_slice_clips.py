"""Volumes as clips: slices in order, each followed from the middle of what has labels."""

import numpy as np
import pytest

from sam_train.data.loading.clip_dataset import HeldOutClips
from sam_train.data.sources.npz.source import NpzSource
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from tests.data.sources.volume_files import labels, make_volumes, save_nifti, voxels


def clips_in(root, **options):
    return VolumeSource(str(root), split=(0, 0, 1), **options).splits()["test"].as_clips()


def test_frames_are_the_slices_from_the_first_to_the_last_with_a_label(tmp_path):
    make_volumes(tmp_path, 2)
    gap = labels()
    gap[:, :, 3] = 0
    save_nifti(tmp_path / "imagesTr/q.nii.gz", voxels(9))
    save_nifti(tmp_path / "labelsTr/q.nii.gz", gap)
    clips = clips_in(tmp_path, group_pattern=r"^[a-z]\d?")
    assert [(clip.name, list(clip.frames), clip.middle) for clip in clips.clips] == [
        *((f"p0_{number}", [f"axial_{place:04}" for place in (2, 3, 4, 5)], 2) for number in (0, 1)),
        ("q", [f"axial_{place:04}" for place in (2, 3, 4, 5)], 2),
    ]
    assert clips.read_frame(2, 1).value.tolist() == []  # no label, and known to have none
    assert clips.read_frame(2, 3).category == ("2",)
    assert (clips.group_of(1), clips.spacing(0)) == ("p0", (3.0, 2.0, 1.0))
    slices = VolumeSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert set(map(slices.identity, range(len(slices)))) < set(map(clips.identity, range(len(clips))))


def test_a_part_of_a_volume_is_around_its_middle(tmp_path):
    clips = clips_in(make_volumes(tmp_path, 1))
    assert list(HeldOutClips(clips)[0].frames) == [0, 1, 2, 3]
    assert list(HeldOutClips(clips, max_frames=2)[0].frames) == [1, 2]


def test_an_object_of_a_volume_is_given_where_it_is_largest(tmp_path):
    root = make_volumes(tmp_path, 1)
    growing = np.zeros_like(labels())
    for place, side in enumerate((1, 2, 3, 2, 1), start=1):
        growing[:side, :side, place] = 1
        growing[4:, 4 : 4 + side, place + 2] = 2
    growing[4:, 4:6, 7] = 2
    save_nifti(root / "imagesTr/q.nii.gz", voxels(9))
    save_nifti(root / "labelsTr/q.nii.gz", growing)
    clips = clips_in(root)
    (place,) = [place for place, clip in enumerate(clips.clips) if clip.name == "q"]
    assert HeldOutClips(clips)[place].given_on() == {1: 2, 2: 4}
    assert HeldOutClips(clips, max_frames=2)[place].given_on() == {1: 2, 2: 3}


def test_all_slices_are_followed_where_most_labels_are_near_one_end(tmp_path):
    root = make_volumes(tmp_path, 1)
    sparse = np.zeros((*labels().shape[:2], 9), labels().dtype)
    sparse[1:4, 1:4, [0, 5, 6, 7]] = 1
    save_nifti(root / "imagesTr/q.nii.gz", voxels(9))
    save_nifti(root / "labelsTr/q.nii.gz", sparse)
    clips = clips_in(root)
    (place,) = [place for place, clip in enumerate(clips.clips) if clip.name == "q"]
    assert clips.clips[place].middle == 6
    assert list(HeldOutClips(clips)[place].frames) == [*range(8)]
    assert list(HeldOutClips(clips, max_frames=4)[place].frames) == [4, 5, 6, 7]


def test_scans_of_npz_files_are_clips_too(tmp_path):
    for index in range(2):
        image = np.random.default_rng(index).integers(0, 255, (6, 9, 9)).astype(np.uint8)
        masks = np.zeros((6, 9, 9), np.uint8)
        masks[1:5, 2:6, 2:6] = 3
        np.savez_compressed(tmp_path / f"s{index}.npz", imgs=image, gts=masks, spacing=np.array([0.5, 0.8, 3.0]))
    clips = NpzSource(str(tmp_path), split=(0, 0, 1)).splits()["test"].as_clips()
    assert [len(clip.frames) for clip in clips.clips] == [4, 4]
    assert clips.spacing(1) == (3.0, 0.8, 0.5)


def test_pieces_of_slices_are_no_objects_of_a_clip(tmp_path):
    with pytest.raises(InputError, match=r"data\.objects=components: nothing says which pieces"):
        clips_in(make_volumes(tmp_path, 1), objects="components")
