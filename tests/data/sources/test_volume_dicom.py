"""DICOM: slices by their place alone, segmentations and contours on the slices they were drawn on."""

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.volume.contours import fill
from sam_train.data.sources.volume.dicom import order_slices, read_headers, read_series
from sam_train.data.sources.volume.grid import to_slices
from sam_train.data.sources.volume.reading import read_volume
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.errors import FileError, InputError
from tests.data.sources.volume_files import save_nifti, write_series
from tests.parity.reference import SHARED

DATA = SHARED / "data" / "dicom_ct_seg"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")


def ordered(paths):
    return order_slices([one for slices in read_headers(paths).values() for one in slices])


def test_slices_are_ordered_by_place_never_by_number_or_name(tmp_path):
    volume = read_series(ordered(write_series(tmp_path)))
    assert volume.is_ct
    assert volume.voxels[0, 0].tolist() == [-1000, -998, -996, -994]
    assert volume.grid.spacing == (0.5, 1.5, 2.0)
    assert volume.voxels.shape == (5, 6, 4)


def test_inverted_gray_is_turned_alike_in_every_slice(tmp_path):
    volume = read_series(ordered(write_series(tmp_path, PhotometricInterpretation="MONOCHROME1")))
    stored = np.array([0, 2, 4, 6])
    assert volume.voxels[0, 0].tolist() == (65535 - stored - 1000).tolist()


def test_a_series_is_where_nifti_says_it_is(tmp_path):
    """A plane drawn at the patient's left (+x in DICOM, -x here) comes first, whatever the order of rows."""
    series = ordered(write_series(tmp_path, ImagePositionPatient=[7, 0, 0])[:1])
    grid = read_series(series).grid
    assert grid.affine[:3, 3].tolist() == [-7 - 4 * 0.5, -5 * 1.5, 0]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ((0, 2, 6, 8, 10), "4 mm after .*, where slices are 2 mm apart: 1 missing"),
        ((0, 2, 2, 4), "0 mm after .*: there twice"),
        ((0, 2, 4, 5, 7), "1 mm after .*: unevenly spaced"),
    ],
)
def test_slices_that_are_missing_or_there_twice_are_named(tmp_path, places, found):
    with pytest.raises(FileError, match=rf"slices missing or twice: .*\.dcm: {found}"):
        ordered(write_series(tmp_path, places))


def test_slices_of_two_series_or_planes_are_refused(tmp_path):
    first, second = write_series(tmp_path / "a"), write_series(tmp_path / "b")
    with pytest.raises(FileError, match="2 series in one folder"):
        ordered([*first, *second])
    tags = pydicom.dcmread(first[1])
    tags.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    tags.save_as(first[1])
    with pytest.raises(FileError, match="ImageOrientationPatient is"):
        ordered(first)
    write_series(tmp_path / "c", PixelSpacing=None)
    with pytest.raises(FileError, match="does not say where it is in the patient"):
        ordered(sorted((tmp_path / "c").iterdir()))


def test_a_folder_of_slices_may_be_labelled_by_a_volume(tmp_path):
    write_series(tmp_path / "images" / "case")
    grid = read_series(ordered(sorted((tmp_path / "images" / "case").iterdir()))).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:4, 1:4, 1:3] = 1
    save_nifti(tmp_path / "labels" / "case.nii.gz", labels, grid.affine)
    images = VolumeSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    check_sources({"test": images})
    assert list(images.ids) == ["case/axial_0001", "case/axial_0002"]
    write_series(tmp_path / "images" / "case", (100.0,), uid="1.2.3")
    with pytest.raises(InputError, match=r"several series[\s\S]*2 series in one folder"):
        check_sources({"test": VolumeSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]})


@needs_data
def test_real_segmentations_lie_where_their_nrrd_files_say():
    root = DATA / "liver_3slice"
    images = VolumeSource(str(root), split=(0, 0, 1), categories=["Liver"]).splits()["test"]
    expected = to_slices(read_volume(root / "nrrd" / "liver_seg.nrrd").voxels == 1, "axial")
    assert len(images) == 3
    for index in range(3):
        assert np.array_equal(images.read(index).masks()[0].numpy(), expected[index])
    assert sorted(expected.sum(axis=(1, 2))) == [35220, 35645, 36233]  # as the set's README counts them


@needs_data
def test_real_segments_that_overlap_keep_all_their_pixels():
    images = VolumeSource(str(DATA / "liver_3slice"), split=(0, 0, 1)).splits()["test"]
    assert set(images.categories) == {"Liver", "GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"}
    tags = pydicom.dcmread(DATA / "liver_3slice" / "seg" / "partial_overlaps.dcm")
    samples = [images.read(index) for index in range(3)]
    drawn = sum(int(one.areas()[row]) for one in samples for row, name in enumerate(one.category) if name != "Liver")
    assert drawn == int(tags.pixel_array.astype(bool).sum())
    assert any(len(one.labels) > 1 for one in samples)


@needs_data
def test_real_contours_are_filled_as_another_library_fills_them():
    root = DATA / "rtstruct_1slice"
    images = VolumeSource(str(root), split=(0, 0, 1)).splits()["test"]
    sample = images.read(0)
    assert sample.category == ("BODY",)
    series = pydicom.dcmread(root / "ct.0.dcm")
    tags = pydicom.dcmread(root / "rtss.dcm")
    expected = np.zeros((int(series.Rows), int(series.Columns)), bool)
    for contour in tags.ROIContourSequence[0].ContourSequence:
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        if abs(points[0, 2] - float(series.ImagePositionPatient[2])) < 0.1:
            places = (points[:, :2] - np.array(series.ImagePositionPatient[:2], float)) / float(series.PixelSpacing[0])
            drawn = Image.new("1", expected.shape[::-1])
            ImageDraw.Draw(drawn).polygon([tuple(place) for place in places], fill=1)
            expected ^= np.array(drawn)
    mask = sample.masks()[0].numpy()
    assert (mask ^ expected).sum() < 0.02 * expected.sum()  # Pillow also fills the outline itself


def test_filling_is_even_odd_and_holds_the_middles_of_pixels():
    square = np.array([[0.5, 0.5], [0.5, 4.5], [3.5, 4.5], [3.5, 0.5]])
    mask = fill(square, (6, 7))
    assert mask[1:4, 1:5].all()
    assert mask.sum() == 12
    bow = np.array([[-0.5, -0.5], [4.5, 4.5], [-0.5, 4.5], [4.5, -0.5]])
    assert 0 < fill(bow, (5, 5)).sum() < 25
    assert fill(square + 100, (6, 7)).sum() == 0
