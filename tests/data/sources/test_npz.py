"""Arrays prepared for MedSAM: plain numbers alone are read, and no more than a file may hold."""

import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.npz.source import NpzSource
from sam_train.errors import FileError, InputError

LABELS = np.zeros((12, 16), np.uint8)
LABELS[1:5, 2:6], LABELS[6:9, 8:12] = 1, 7


def color(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)


def make(root, number=4, **more):
    """Flat images in color, and scans of 5 gray slices of which 2 have labels."""
    for index in range(number):
        np.savez_compressed(root / f"p{index}_2D.npz", **{"imgs": color(index), "gts": LABELS, **more})
        labels = np.stack([LABELS * 0, LABELS, LABELS * 0, LABELS, LABELS * 0])
        gray = np.stack([color(10 * index + place)[..., 0] for place in range(5)])
        np.savez_compressed(root / f"p{index}_3D.npz", imgs=gray, gts=labels, spacing=np.array([0.5, 0.8, 3.0]))
    return root


def everything(root, **options):
    return NpzSource(str(root), split=(0, 0, 1), **options).splits()["test"]


def test_files_of_the_challenge_are_read_in_2d_and_3d(tmp_path):
    images = everything(make(tmp_path))
    check_sources({"test": images})
    assert list(images.ids)[:3] == ["p0_2D/slice_0000", "p0_3D/slice_0001", "p0_3D/slice_0003"]
    flat, first = images.read(0), images.read(1)
    assert torch.equal(flat.image, torch.from_numpy(color()).permute(2, 0, 1))
    assert np.array_equal(first.image, np.stack([color(1)[..., 0]] * 3))
    assert first.spacing == (0.8, 0.5)  # of rows, then of columns; the file says x first
    for sample in (flat, first):
        assert np.array_equal(sample.masks(), [LABELS == 1, LABELS == 7])
        assert sample.category == ("1", "7")


def test_folders_of_npy_files_hold_0_to_1(tmp_path):
    for part in ("CT_Abd/imgs", "CT_Abd/gts"):
        (tmp_path / part).mkdir(parents=True)
    np.save(tmp_path / "CT_Abd" / "imgs" / "CT_a-001.npy", color() / 255)
    np.save(tmp_path / "CT_Abd" / "gts" / "CT_a-001.npy", LABELS)
    images = everything(tmp_path)
    assert list(images.ids) == ["CT_Abd/CT_a-001/slice_0000"]
    assert torch.equal(images.read(0).image, torch.from_numpy(color()).permute(2, 0, 1))
    (tmp_path / "CT_Abd" / "gts" / "CT_a-001.npy").unlink()
    with pytest.raises(InputError, match="image without labels"):
        check_sources({"test": everything(tmp_path)})


def test_a_patient_is_in_one_split(tmp_path):
    splits = NpzSource(str(make(tmp_path)), group_pattern=r"^p\d").splits()
    groups = [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sorted(group for some in groups for group in some) == ["p0", "p1", "p2", "p3"]


def header(shape):
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "|u1"})
    return file.getvalue()


def bomb(path):
    """Write a file of a few kilobytes that claims, and has, more zeros than memory holds."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("imgs.npy", header((1 << 20, 1 << 20)) + b"\0" * 1000)
        archive.writestr("gts.npy", header((12, 16)) + LABELS.tobytes())


def short(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("imgs.npy", header((12, 16)) + b"\0" * 100)
        archive.writestr("gts.npy", header((12, 16)) + LABELS.tobytes())


class Harm:
    """An object that would do something when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("an object was unpickled",))


FAULTS = {
    "holds Python objects, which are not read": lambda path: np.savez(
        path, imgs=np.array([Harm(), None], object), gts=LABELS
    ),
    "is 1099511627776 bytes, more than 4294967296": bomb,
    "has 100 of the 192 bytes of an array": short,
    "has no gts": lambda path: np.savez(path, imgs=color()),
    "imgs of .1, 12, 16, 3., but gts of .1, 5, 16.": lambda path: np.savez(path, imgs=color(), gts=LABELS[:5]),
    "imgs hold -1024 to 2000": lambda path: np.savez(
        path, imgs=np.linspace(-1024, 2000, 192).reshape(12, 16), gts=LABELS
    ),
    "imgs are float64": lambda path: np.savez(path, imgs=np.full((12, 16), np.nan), gts=LABELS),
    "gts are float64": lambda path: np.savez(path, imgs=color(), gts=LABELS * 0.5),
    "File is not a zip file": lambda path: path.write_bytes(b"PK and no more"),
}


@pytest.mark.parametrize("found", FAULTS)
def test_what_is_wrong_with_a_file_is_named(tmp_path, found):
    make(tmp_path)
    FAULTS[found](tmp_path / "bad.npz")
    with pytest.raises(InputError, match=rf"the data has 1 problem[\s\S]*bad\.npz: .*{found}"):
        check_sources({"test": everything(tmp_path)})
    with pytest.raises(FileError, match=found):
        everything(tmp_path, check=False).read(0)


def test_a_folder_without_arrays_is_named(tmp_path):
    with pytest.raises(InputError, match="neither npz files nor folders imgs and gts"):
        everything(tmp_path)


def test_slices_of_a_scan_in_files_of_their_own_stay_together(tmp_path):
    for part in ("CT/imgs", "CT/gts"):
        (tmp_path / part).mkdir(parents=True)
    for scan in "abcd":
        for place in range(3):
            np.save(tmp_path / "CT" / "imgs" / f"CT_{scan}-{place:03}.npy", color() / 255)
            np.save(tmp_path / "CT" / "gts" / f"CT_{scan}-{place:03}.npy", LABELS)
    splits = NpzSource(str(tmp_path), split=(0.5, 0.25, 0.25)).splits()
    groups = [{images.group(index) for index in range(len(images))} for images in splits.values()]
    assert sorted(map(len, groups)) == [1, 1, 2]
    assert set().union(*groups) == {f"CT/CT_{scan}" for scan in "abcd"}
    assert splits["test"].slice_of(0) is None  # a file of one slice is no volume
