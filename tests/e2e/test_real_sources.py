"""Each kind of data trains from the command line on a real set, as it lies there."""

import json
import shutil

import numpy as np
import pytest

from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.volume.reading import read_volume
from sam_train.metrics.rle import encode_mask
from tests.data.sources.sa1b_files import write_tar
from tests.e2e.commands import SMALL, assert_report, run
from tests.parity.reference import SHARED

DATA = SHARED / "data"
SETTINGS = [setting for setting in SMALL if not setting.startswith(("data.", "trainer.max_steps"))]
SETTINGS += ["trainer.max_steps=2", "loader.max_val_images=2"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*those of val serve"),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}"),
]


def train(monkeypatch, output, *arguments):
    run("train", monkeypatch, *arguments, *SETTINGS, f"output={output}")
    return assert_report(output)


def test_coco(tmp_path, monkeypatch):
    assert train(monkeypatch, tmp_path / "run", "data=coco", f"data.root={DATA}/fruits_nuts")["num_images"] == 2


def test_volumes(tmp_path, monkeypatch):
    settings = ["data=volume", f"data.root={DATA}/mri_hippocampus", "data.split=[0.9,0.05,0.05]"]
    assert train(monkeypatch, tmp_path / "run", *settings)["num_images"] > 20


@pytest.mark.filterwarnings("ignore:.*is the only patient")
def test_dicom(tmp_path, monkeypatch):
    settings = ["data=volume", f"data.root={DATA}/dicom_ct_seg/liver_3slice"]
    assert train(monkeypatch, tmp_path / "run", *settings)["num_images"] == 1


def test_what_a_folder_plainly_holds_need_not_be_said(tmp_path, monkeypatch, capsys):
    train(monkeypatch, tmp_path / "run", f"data.root={DATA}/fruits_nuts")
    assert "found COCO json (annotations_coco.json), 3 categories, 13 images: data=coco" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets")
def test_a_table_of_real_images(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = DATA / "nuclei_fluorescence"
    names = [path.name for path in sorted((root / "images").iterdir())[:8]]
    rows = {
        column: [{"bytes": (root / folder / name).read_bytes(), "path": None} for name in names]
        for column, folder in (("image", "images"), ("mask", "masks"))
    }
    columns = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=columns).to_parquet(tmp_path / "nuclei.parquet")
    for streaming in ("false", "true"):
        settings = ["data=hf", f"data.root={tmp_path}/nuclei.parquet", f"data.streaming={streaming}"]
        assert train(monkeypatch, tmp_path / streaming, *settings)["num_images"] == 1


def test_tars_of_real_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = FolderSource(str(DATA / "nuclei_fluorescence"), split=(0, 0, 1)).splits()["test"]
    for tar in range(3):
        members = []
        for index in range(tar * 3, tar * 3 + 3):
            sample = images.read(index)
            masks = [{"segmentation": encode_mask(mask.numpy())} for mask in sample.each_mask()]
            said = {"image": {"height": sample.size[0], "width": sample.size[1]}, "annotations": masks}
            members += [(f"{index}.png", images.pairs[index].image.read_bytes())]
            members += [(f"{index}.json", json.dumps(said).encode())]
        write_tar(tmp_path / "tars" / f"{tar:06}.tar", members)
    assert train(monkeypatch, tmp_path / "run", f"data.root={tmp_path}/tars")["num_images"] == 1
    assert "found 3 tars of images and JSON: data=sa1b" in capsys.readouterr().out


def test_arrays_of_real_volumes(tmp_path, monkeypatch):
    (tmp_path / "npz").mkdir()
    for name in ("008", "014", "020"):
        image, labels = (
            read_volume(DATA / "mri_hippocampus" / folder / f"hippocampus_{name}.nii.gz").voxels[:, :, 16:20]
            for folder in ("imagesTr", "labelsTr")
        )
        prepared = (image / image.max() * 255).astype(np.uint8)
        np.savez_compressed(tmp_path / "npz" / f"{name}.npz", imgs=prepared.T, gts=labels.T, spacing=[1.0, 1.0, 1.0])
    assert train(monkeypatch, tmp_path / "run", "data=npz", f"data.root={tmp_path}/npz")["num_images"] == 4


def test_labelme_files_of_real_images_are_recognized(tmp_path, monkeypatch, capsys):
    coco = json.loads((DATA / "fruits_nuts" / "annotations_coco.json").read_text())
    root = tmp_path / "labelme"
    for image in coco["images"][:6]:
        size = {"imageHeight": image["height"], "imageWidth": image["width"]}
        shapes = [
            {"label": "fruit", "shape_type": "polygon", "points": np.reshape(ring, (-1, 2)).tolist()}
            for one in coco["annotations"]
            if one["image_id"] == image["id"]
            for ring in one["segmentation"]
        ]
        file = next((DATA / "fruits_nuts").rglob(image["file_name"].rpartition("/")[2]))
        root.mkdir(exist_ok=True)
        shutil.copy(file, root)
        content = {"shapes": shapes, "imagePath": file.name, "imageData": None, **size}
        (root / f"{file.stem}.json").write_text(json.dumps(content))
    assert train(monkeypatch, tmp_path / "run", f"data.root={root}")["num_images"] == 1
    assert "found LabelMe annotations, 6 files: data=labelme" in capsys.readouterr().out
