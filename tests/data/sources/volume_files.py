"""Small volumes: NIfTI in folders, and DICOM series."""

import json
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SHAPE = (10, 12, 8)
SPACING = (1.0, 2.0, 3.0)
AFFINE = np.diag([*SPACING, 1.0])


def voxels(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(1, 1000, shape).astype(np.int16)


def labels(shape=SHAPE):
    """Label 1 in slices 2 to 4 of each axis, two pieces of label 2 in slice 5."""
    found = np.zeros(shape, np.uint8)
    found[2:5, 2:5, 2:5] = 1
    found[2:4, 2:4, 5] = 2
    found[6:8, 6:8, 5] = 2
    return found


def save_nifti(path: Path, what, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(what, affine), path)
    return path


def make_volumes(root: Path, number=6, images="imagesTr", masks="labelsTr") -> Path:
    for index in range(number):
        save_nifti(root / images / f"p{index // 2}_{index}.nii.gz", voxels(index))
        save_nifti(root / masks / f"p{index // 2}_{index}.nii.gz", labels())
    return root


def describe(root: Path, **content) -> None:
    (root / "dataset.json").write_text(json.dumps(content))


def write_series(folder: Path, places=(0.0, 2.0, 4.0, 6.0), uid=None, size=(6, 5), **tags) -> list[Path]:
    """Write axial CT slices whose pixels are their place, named and numbered against their order."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, paths = uid or f"1.2.{zlib.crc32(str(folder).encode())}", []
    for index, place in enumerate(places):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = f"{uid}.{index}"
        path = folder / f"{len(places) - index:03}.dcm"
        file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, f"{uid}.{index}"
        file.SeriesInstanceUID, file.Modality, file.PatientID = uid, "CT", "somebody"
        file.InstanceNumber = len(places) - index
        file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, place], [1, 0, 0, 0, 1, 0]
        file.PixelSpacing, file.SliceThickness = [1.5, 0.5], 1
        file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = *size, 1, "MONOCHROME2"
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, 0
        file.RescaleSlope, file.RescaleIntercept = 1, -1000
        for name, value in tags.items():
            setattr(file, name, value)
        file.PixelData = np.full(size, round(place), np.uint16).tobytes()
        pydicom.dcmwrite(path, file, enforce_file_format=True)
        paths.append(path)
    return paths
