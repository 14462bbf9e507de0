"""Volumes: where voxels are, what becomes of their numbers, which slices are asked for and when they are decoded."""

import pickle

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.tones import Tones, window_of
from sam_train.data.sources.volume.grid import Grid, from_ras, from_slices, to_ras, to_slices
from sam_train.data.sources.volume.intensity import to_eight_bits
from sam_train.data.sources.volume.reading import read_volume
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import InputError
from tests.data.sources.volume_files import AFFINE, SHAPE, SPACING, describe, labels, make_volumes, save_nifti, voxels
from tests.parity.reference import SHARED

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")


def everything(root, **options):
    return VolumeSource(str(root), split=(0, 0, 1), **options).splits()["test"]


@pytest.mark.filterwarnings("ignore")  # those of MONAI and ITK
@needs_data
def test_nibabel_simpleitk_and_monai_agree_where_voxels_are(tmp_path):
    from monai.data import MetaTensor, NibabelReader
    from monai.transforms import Orientation

    original = DATA / "volumes_mixed" / "nifti" / "images" / "mr_brain1.nii.gz"
    ours = read_volume(original)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(original)), str(tmp_path / "same.mha"))
    for path in (tmp_path / "same.mha", DATA / "volumes_mixed" / "nrrd" / "images" / "mr_brain1.nrrd"):
        other = read_volume(path)
        assert np.array_equal(ours.voxels, other.voxels)
        assert np.allclose(ours.grid.affine, other.grid.affine, atol=1e-3)
    reader = NibabelReader()
    array, meta = reader.get_data(reader.read(str(original)))
    theirs = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(
        MetaTensor(torch.from_numpy(array)[None], affine=meta["affine"])
    )
    assert np.array_equal(theirs[0].numpy(), ours.voxels)
    assert np.allclose(theirs.affine, ours.grid.affine)


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_volume_is_the_same_however_its_axes_are_stored(order, flips):
    content = voxels()
    stored = content.transpose(order)
    affine = AFFINE[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, axis)
            affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
            affine[:3, axis] *= -1
    found, grid = to_ras(stored, affine)
    assert np.array_equal(found, content)
    assert np.array_equal(from_ras(found, affine), stored)
    for axis in ("axial", "coronal", "sagittal"):
        assert np.array_equal(from_slices(to_slices(found, axis), axis), found)
    assert grid.difference(Grid(SHAPE, AFFINE)) is None
    assert grid.spacing == SPACING


def test_slices_are_shown_as_radiologists_look_at_them():
    right, front, top = (
        (slice(-1, None), slice(None), slice(None)),
        (slice(None), slice(-1, None)),
        (..., slice(-1, None)),
    )
    for axis, size, at_left, at_top in (
        ("axial", (8, 12, 10), right, front),
        ("coronal", (12, 8, 10), right, top),
        ("sagittal", (10, 8, 12), front, top),
    ):
        for place, edge in ((at_left, np.s_[:, :, 0]), (at_top, np.s_[:, 0, :])):
            content = np.zeros(SHAPE, np.uint8)
            content[place] = 1
            shown = to_slices(content, axis)
            assert shown.shape == size
            assert shown[edge].all()
            assert shown.sum() == shown[edge].sum()
    content = np.arange(8)[None, None] * np.ones(SHAPE, int)
    assert to_slices(content, "axial")[:, 0, 0].tolist() == list(range(8))


def test_a_window_and_percentiles_become_black_and_white(tmp_path):
    content = np.array([[[-2000, -160, 40, 240, 3000]]], np.int16)
    for window in ("soft_tissue", [0, 80]):
        tones = Tones((), (window_of(window),))
        assert to_eight_bits(content, tones, tmp_path).tolist() == [[[0, 0, 128, 255, 255]]]
    content = np.random.default_rng(0).normal(500, 90, (9, 30, 30)).astype(np.float32)
    content[:4] = 0  # MedSAM: 0.5 to 99.5 of the non-zero
    low, high = np.percentile(content[4:], [0.5, 99.5])
    expected = np.rint((np.clip(content, low, high) - low) / (high - low) * 255)
    assert np.abs(to_eight_bits(content, Tones(), tmp_path) - expected).max() <= 1
    assert to_eight_bits(content * 0, Tones(), tmp_path).max() == 0
    with pytest.raises(InputError, match=r"data\.window=liver: expected soft_tissue, lung, bone, brain or two numbers"):
        window_of("liver")


@pytest.mark.parametrize(("axis", "number", "size", "spacing"), [
    ("axial", 4, (12, 10), (3.0, 2.0, 1.0)),
    ("coronal", 5, (8, 10), (2.0, 3.0, 1.0)),
    ("sagittal", 5, (8, 12), (1.0, 3.0, 2.0)),
    ("thick", 4, (12, 10), (3.0, 2.0, 1.0)),
])  # fmt: skip
def test_slices_with_labels_along_any_axis(tmp_path, axis, number, size, spacing):
    images = everything(make_volumes(tmp_path, 1), axis=axis)
    assert len(images) == number
    sample = images.read(0)
    assert sample.size == size
    assert sample.spacing == spacing[1:]
    places = [images.slice_of(index) for index in range(number)]
    assert {place.volume for place in places} == {images.volumes.cases[0].id}
    assert {place.spacing for place in places} == {spacing}
    assert [place.place for place in places] == images.place.tolist()
    assert torch.equal(sample.image[0], sample.image[2])
    found = np.stack([images.read(index).labels[0].numpy() for index in range(number)])
    used = "axial" if axis == "thick" else axis
    expected = to_slices(labels(), used)
    assert np.array_equal(found, expected[expected.any(axis=(1, 2))])
    assert len(everything(tmp_path, axis=axis, empty_slices=True)) == len(expected)


def test_labels_have_names_and_may_be_chosen_by_them(tmp_path):
    make_volumes(tmp_path, 2)
    for content in (
        {"labels": {"0": "background", "1": "left", "2": "right"}},  # the Decathlon's
        {
            "labels": {"background": 0, "left": 1, "right": 2, "whole": [1, 2]},
            "channel_names": {"0": "T1"},
        },  # nnU-Net's
    ):
        describe(tmp_path, **content)
        images = everything(tmp_path)
        assert images.categories == ("left", "right")
        assert [images.read(index).category for index in range(4)] == [("left",)] * 3 + [("right",)]
    assert len(everything(tmp_path, categories=["right"])) == 2
    with pytest.raises(InputError, match=r"no volume has a label 'rigth'; there are left, right"):
        everything(tmp_path, categories=["rigth"])


def test_pieces_of_a_label_are_objects_on_request(tmp_path):
    images = everything(make_volumes(tmp_path, 1))
    assert len(images.read(3).value) == 1
    images = everything(tmp_path, objects="components")
    sample = images.read(3)
    assert sample.areas().tolist() == [4, 4]
    assert sample.category == ("2", "2")


def test_neighbors_and_channels_become_colors(tmp_path):
    images = everything(make_volumes(tmp_path, 1), neighbors=True)
    gray = everything(tmp_path)
    for index in (1, 2):
        expected = [gray.read(index + offset).image[0] for offset in (-1, 0, 1)]
        assert torch.equal(images.read(index).image, torch.stack(expected))
    (tmp_path / "imagesTr" / "p0_0.nii.gz").rename(tmp_path / "imagesTr" / "p0_0_0000.nii.gz")  # as nnU-Net has it
    for channel in (1, 2):
        save_nifti(tmp_path / "imagesTr" / f"p0_0_000{channel}.nii.gz", voxels(channel))
    with pytest.raises(InputError, match=r"3 channels.*\n?.*"):
        check_sources({"test": everything(tmp_path)})
    colored = everything(tmp_path, channels=[1, 2, 3]).read(0).image
    assert not torch.equal(colored[0], colored[1])
    assert torch.equal(everything(tmp_path, channels=[1]).read(0).image, gray.read(0).image)


def test_a_patient_is_in_one_split_and_the_only_one_is_said_to_be(tmp_path):
    splits = VolumeSource(str(make_volumes(tmp_path)), group_pattern=r"^p\d").splits()
    patients = [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sorted(group for one in patients for group in one) == ["p0", "p1", "p2"]
    alone = make_volumes(tmp_path / "alone", 1)
    with pytest.warns(UserWarning, match="p0_0 is the only patient"):
        splits = VolumeSource(str(alone)).splits()
    assert {name: len(images) for name, images in splits.items()} == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_a_volume_is_decoded_once_per_epoch_and_worker_and_few_stay_open(tmp_path, num_workers):
    images = everything(make_volumes(tmp_path, 7), open_volumes=2)
    workers = [pickle.loads(pickle.dumps(images)) for _ in range(num_workers)]
    batches = list(TrainBatches(len(images), 3, 0, 0, 1, images.shuffled))
    seen = []
    for number, batch in enumerate(batches[:-1]):  # the last is filled up from the epoch's start
        worker = workers[number % num_workers]
        for _, index in batch:
            seen.append(worker.read(index).id)
            assert len(worker.volumes._open) <= 2
    assert len(seen) == len(set(seen)) == 27
    assert all(worker.volumes.num_opened <= 7 for worker in workers)


def test_every_epoch_has_another_order_of_all_slices(tmp_path):
    images = everything(make_volumes(tmp_path, 5), open_volumes=2)
    orders = [images.shuffled(torch.Generator().manual_seed(seed)).tolist() for seed in range(4)]
    assert all(sorted(order) == list(range(len(images))) for order in orders)
    assert len(set(map(tuple, orders))) == 4
    repeated = images.shuffled(torch.Generator().manual_seed(0)).tolist()
    assert repeated == orders[0]
    mixed = [images.case[index] for index in orders[0][:8]]
    assert len(set(mixed)) == 2
    assert mixed != sorted(mixed)


def test_what_changes_pixels_changes_the_fingerprint_and_copies_are_known(tmp_path):
    make_volumes(tmp_path, 2)
    (tmp_path / "imagesTr" / "p0_1.nii.gz").write_bytes((tmp_path / "imagesTr" / "p0_0.nii.gz").read_bytes())
    images = everything(tmp_path)
    assert images.identity(0) == images.identity(4)
    assert len({images.identity(index) for index in range(4)}) == 4
    assert images.fingerprint(0) != everything(tmp_path, window=[0, 500]).fingerprint(0)


@needs_data
def test_the_real_decathlon_set_is_read_and_checked():
    splits = VolumeSource(str(DATA / "mri_hippocampus")).splits()
    assert sum(map(len, splits.values())) == 889
    assert splits["train"].categories == ("Anterior", "Posterior")
    check_sources({"val": splits["val"]})


@needs_data
def test_real_volumes_of_other_kinds_are_read():
    root = DATA / "volumes_mixed"
    nifti = everything(root / "nifti")
    nrrd = everything(root, images="nrrd/images", labels="nrrd/labels")
    brain = [index for index, name in enumerate(nifti.ids) if name.startswith("mr_brain1/")]
    assert len(brain) == len(nrrd)
    for one, other in zip(brain, range(len(nrrd)), strict=True):
        assert torch.equal(nifti.read(one).image, nrrd.read(other).image)
        assert torch.equal(nifti.read(one).masks(), nrrd.read(other).masks())
    check_sources({"test": nifti})


def test_a_volume_in_four_axes_has_channels_last(tmp_path):
    content = np.stack([voxels(0), voxels(1)], axis=-1)
    save_nifti(tmp_path / "images" / "a.nii", content)
    save_nifti(tmp_path / "labels" / "a.nii", labels())
    first, second = (everything(tmp_path, channels=[channel]).read(0).image for channel in (1, 2))
    assert not torch.equal(first, second)
    assert nibabel.load(tmp_path / "images" / "a.nii").shape == (*SHAPE, 2)
