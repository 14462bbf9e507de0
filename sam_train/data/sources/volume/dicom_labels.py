"""Objects of DICOM series: segmentations (SEG, read by highdicom) and contours (RTSTRUCT)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from sam_train.data.sources.volume.contours import fill
from sam_train.data.sources.volume.dicom import Series
from sam_train.errors import FileError, Problem

Segment = tuple[str, Bool[np.ndarray, "n h w"]]
"""The name of an object and its pixels on each slice of the series."""


def referenced_series(path: Path) -> set[str]:
    """Return the UIDs of the series that a SEG or RTSTRUCT file is about.

    Raises:
        FileError: If it cannot be read.
    """
    import pydicom

    try:
        tags = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:
        raise FileError(Problem("unreadable DICOM", path, str(error), "copy it anew")) from error
    return {str(one.SeriesInstanceUID) for one in _walk(tags, "ReferencedSeriesSequence", "RTReferencedSeriesSequence")}


def read_segments(path: Path, series: Series) -> list[Segment]:
    """Read the objects of a file that lie on the slices of a series; those without a pixel are left out.

    Raises:
        FileError: If it cannot be read or refers to slices that are not there.
    """
    import pydicom

    try:
        tags = pydicom.dcmread(path)
        found = list(_contours(tags, series) if tags.Modality == "RTSTRUCT" else _segments(tags, series))
    except Exception as error:  # of damaged bytes, missing tags, frames of other slices
        raise FileError(Problem("unreadable labels", path, str(error), "export it anew with its series")) from error
    return [(name, mask) for name, mask in found if mask.any()]


def _segments(tags: Any, series: Series) -> Iterator[Segment]:
    import highdicom

    file = highdicom.seg.Segmentation.from_dataset(tags)
    numbers = file.segment_numbers
    masks = file.get_pixels_by_source_instance(
        [one.uid for one in series.slices],
        segment_numbers=numbers,
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=True,
    )
    for index, number in enumerate(numbers):
        yield str(file.get_segment_description(number).segment_label), masks[..., index] >= 0.5


def _contours(tags: Any, series: Series) -> Iterator[Segment]:
    """Yield the regions; contours on one slice cut each other out, as a hole is drawn."""
    names = {int(one.ROINumber): str(one.ROIName) for one in tags.StructureSetROISequence}
    to_index = np.linalg.inv(series.affine)
    for region in tags.ROIContourSequence:
        mask = np.zeros((len(series.slices), *series.size), bool)
        for contour in region.get("ContourSequence", ()):
            points = np.reshape(np.asarray(contour.ContourData, np.float64), (-1, 3))
            column, row, place = (np.c_[points, np.ones(len(points))] @ to_index.T)[:, :3].T
            index = round(float(place.mean()))
            is_planar = np.ptp(place) < 0.5 and abs(place.mean() - index) < 0.5
            if contour.ContourGeometricType == "CLOSED_PLANAR" and is_planar and 0 <= index < len(mask):
                mask[index] ^= fill(np.c_[row, column], series.size)
        yield names.get(int(region.ReferencedROINumber), str(region.ReferencedROINumber)), mask


def _walk(tags: Any, *names: str) -> Iterator[Any]:
    """Yield the items of all sequences of these names, however deep."""
    for element in tags:
        if element.VR == "SQ":
            for item in element.value:
                if element.keyword in names:
                    yield item
                yield from _walk(item, *names)
