"""Data of other kinds are answered with what they are."""

import json
import os
from dataclasses import replace

import pytest

from sam_train.data.sources import other_kinds
from sam_train.data.sources.folder import FolderSource
from sam_train.errors import InputError
from tests.data.sources.folders import make_folder
from tests.parity.reference import SHARED

COCO = {"info": {}, "images": [{"id": 1}] * 9000, "annotations": [{"image_id": 1, "bbox": [0] * 4}] * 9000}
LABELME = {"version": "5.2.1", "shapes": [], "imagePath": "a.jpg"}
DICOM = b"\0" * 128 + b"DICM" + b"\2\0"
FILES = {
    "COCO annotations": {"annotations/instances.json": json.dumps(COCO).encode()},
    "LabelMe annotations": {
        f"labels/{n}.json": json.dumps({"shapes": [], "imagePath": "a"}).encode() for n in range(3)
    },
    "a volume": {"imagesTr/a.nii.gz": b"x", "imagesTr/b.nrrd": b"x", "imagesTr/c.MHA": b"x"},
    "DICOM": {"series/1.dcm": b"x", "series/IM-0001": DICOM, "series/1.2.840.10008": DICOM},
    "a video": {"clips/a.MP4": b"x"},
    "a table of images": {"data/train-00000.parquet": b"x", "data/a.arrow": b"x"},
}


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_of_another_kind_is_called_by_name(tmp_path, kind):
    for name, content in FILES[kind].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    more = f" and {len(FILES[kind]) - 1} more" if len(FILES[kind]) > 1 else ""
    first = min(tmp_path / name for name in FILES[kind])
    expected = f"{first}{more}: this is {kind}, and data=folder does not read that; save "
    for prepare in (lambda: None, (tmp_path / "images").mkdir, (tmp_path / "masks").mkdir):
        prepare()
        with pytest.raises(InputError) as error:
            FolderSource(str(tmp_path)).splits()
        assert expected in str(error.value)


def test_a_source_that_reads_a_kind_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    kinds = [replace(kind, source="video") if kind.name == "a video" else kind for kind in other_kinds.KINDS]
    monkeypatch.setattr(other_kinds, "KINDS", kinds)
    assert other_kinds.other_kinds(tmp_path) == f"\n{tmp_path / 'a.mp4'}: this is a video, and data=video reads that"


def test_masks_without_images_name_the_annotations_beside_them(tmp_path):
    root = make_folder(tmp_path)
    (root / "coco.json").write_text(json.dumps(COCO))
    FolderSource(str(root)).splits()
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(
        InputError, match=r"(?s)none of the 10 images .* has a mask.*coco\.json: this is COCO annotations"
    ):
        FolderSource(str(root)).splits()


def test_files_that_are_no_annotations_are_not_named(tmp_path):
    (tmp_path / "settings.json").write_text('{"images": 3}')
    (tmp_path / "notes").write_bytes(b"short")
    for name in ("pipe", "pipe.json"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert other_kinds.other_kinds(tmp_path) == ""


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real data at {SHARED / 'data'}")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("dicom_ct_seg", "DICOM"), ("mri_hippocampus", "a volume"), ("fruits_nuts", "COCO annotations")],
)
def test_real_data_of_other_kinds_are_called_by_name(name, kind):
    with pytest.raises(InputError, match=f": this is {kind}, and"):
        FolderSource(str(SHARED / "data" / name)).splits()
