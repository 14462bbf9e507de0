"""``sam-predict`` as a person runs it: what it leaves opens in other tools, and mistakes are told at once."""

import json
import os
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from sam_train.cli import evaluate, predict
from sam_train.cli.overrides import CONFIGS
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.inference.finder import Tiling
from sam_train.inference.mask_generator import Everything
from sam_train.inference.volumes import View, Volume
from sam_train.runs.fit import fit
from sam_train.runs.opening import volume_view
from sam_train.runs.predict import Wanted
from sam_train.runs.settings import Evaluation, ModelChoice, Settings
from tests.data.sources.volume_files import make_volumes, write_series
from tests.third_party.discs import Discs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools with numpy 2
]

LOOSE = [
    "grid.points_per_side=3",
    "grid.pred_iou_thresh=0",
    "grid.stability_score_thresh=0.3",
    "device=cpu",
]
NANO = ["checkpoint=sam2_nano", "image_size=64", *LOOSE]


def run(monkeypatch, *arguments: str) -> None:
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["sam-predict", *arguments])
    predict.main()


def told(monkeypatch, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def disc(height: int = 70, width: int = 90, shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[np.hypot(rows - 35, columns - 40 - shift) < 20] = (220, 180, 60)
    return pixels


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "below/c.png")):
        Image.fromarray(disc(shift=5 * index)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    loading = Loading(batch_size=2, max_objects=3, min_area=4, num_workers=0)
    trainer = {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False}
    model, evaluation = ModelChoice(image_size=64), Evaluation(overlays=0)
    settings = Settings(data=Discs(), model=model, loader=loading, trainer=trainer, evaluation=evaluation)
    return fit(settings, folder).checkpoint


def assert_opens(output: Path, names: dict[str, tuple[int, int]], some: bool = True) -> COCO:
    """Every file holds what COCO's says of its image."""
    coco = COCO(str(output / "instances.json"))
    found = {image["file_name"]: (image["height"], image["width"]) for image in coco.imgs.values()}
    assert found == names
    assert bool(coco.anns) or not some
    for image in coco.imgs.values():
        stem = image["file_name"].rpartition(".")[0]
        of_image = coco.imgToAnns[image["id"]]
        labels = np.array(Image.open(output / "labels" / f"{stem}.png"))
        assert labels.shape == found[image["file_name"]]
        masks = [coco.annToMask(one).astype(bool) for one in of_image]
        assert (np.any(masks, axis=0) if masks else np.zeros_like(labels, bool)).tolist() == (labels > 0).tolist()
        features = json.loads((output / "polygons" / f"{stem}.geojson").read_text())["features"]
        assert [feature["properties"]["area_px"] for feature in features] == [one["area"] for one in of_image]
        for one, mask in zip(of_image, masks, strict=True):
            assert one["area"] == mask.sum()
            x, y, width, height = one["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
        with Image.open(output / "overlays" / f"{stem}.png") as overlay:
            assert overlay.size == labels.shape[::-1]
    return coco


def test_everything_in_a_folder_by_a_tuned_checkpoint(checkpoint, images, tmp_path, monkeypatch):
    output = tmp_path / "M"
    run(monkeypatch, f"checkpoint={checkpoint}", f"images={images}", f"output={output}", "everything=true", *LOOSE)
    names = dict.fromkeys(("a.png", "b.jpg", "below/c.png"), (70, 90))
    assert_opens(output, names)
    assert not [*output.rglob(".unfinished*")]


def test_boxes_in_a_json_file_by_a_tuned_checkpoint(checkpoint, images, tmp_path, monkeypatch):
    boxes = {"a.png": [[20, 15, 60, 55]], "c": [{"box": [30, 15, 70, 55], "category": "coin", "score": 0.5}]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    output = tmp_path / "M"
    run(
        monkeypatch,
        f"checkpoint={checkpoint}",
        f"images={images}",
        f"output={output}",
        f"boxes={tmp_path / 'boxes.json'}",
        "device=cpu",
    )
    coco = assert_opens(output, dict.fromkeys(("a.png", "b.jpg", "below/c.png"), (70, 90)))
    assert {category["name"] for category in coco.cats.values()} == {"object", "coin"}
    assert {one["image_id"] for one in coco.anns.values()} == {1, 3}
    assert all(0 <= one["score"] <= 1 for one in coco.anns.values())


def test_names_of_prompts_that_are_of_no_image_are_told(images, tmp_path, monkeypatch, capsys):
    name = sorted(path.name for path in images.glob("*.png"))[0]
    (tmp_path / "boxes.json").write_text(json.dumps({"gone.png": [[1, 1, 9, 9]], name: [[20, 20, 60, 60]]}))
    places = [f"images={images / name}", f"output={tmp_path / 'M'}", f"boxes={tmp_path / 'boxes.json'}"]
    run(monkeypatch, *NANO, *places)
    assert "1 names in" in (told_all := capsys.readouterr().out)
    assert "such as gone.png" in told_all


def test_a_detectors_results_clicks_and_typed_boxes(images, tmp_path, monkeypatch):
    results = [{"image_id": "b.jpg", "category_id": 7, "bbox": [20, 15, 40, 40], "score": 0.9}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "clicks.csv").write_text("image,x,y,object,label\na.png,40,35,1,1\na.png,5,5,1,0\nb.jpg,45,35,2,1\n")
    for index, (given, expected) in enumerate(
        {
            f"boxes={tmp_path / 'results.json'}": 1,
            f"points={tmp_path / 'clicks.csv'}": 2,
            "boxes=[[20,15,60,55]]": 3,
            "points=[[40,35],[10,10]]": 6,
        }.items()
    ):
        output = tmp_path / f"M{index}"
        run(monkeypatch, *NANO, f"images={images}", f"output={output}", given, "formats=[labels]")
        assert len(COCO(str(output / "instances.json")).anns) <= expected
        assert not (output / "overlays").exists()


def test_a_run_that_was_stopped_goes_on_and_is_not_overwritten_by_another(images, tmp_path, monkeypatch, capsys):
    output = tmp_path / "M"
    run(monkeypatch, *NANO, f"images={images / 'a.png'}", f"output={output}", "boxes=[[20,15,60,55]]")
    first = (output / "labels" / "a.png").stat().st_mtime_ns
    run(monkeypatch, *NANO, f"images={images}", f"output={output}", "boxes=[[20,15,60,55]]")
    assert (output / "labels" / "a.png").stat().st_mtime_ns == first
    assert len(COCO(str(output / "instances.json")).imgs) == 3
    arguments = [*NANO, f"images={images}", f"output={output}", "boxes=[[20,15,61,55]]"]
    assert "another folder, or overwrite=true" in told(monkeypatch, capsys, *arguments)
    run(monkeypatch, *arguments, "overwrite=true")
    assert (output / "labels" / "a.png").stat().st_mtime_ns > first
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("a person's")
    elsewhere = [*NANO, f"images={images}", f"output={tmp_path / 'other'}", "everything=true"]
    assert "that sam-predict did not make" in told(monkeypatch, capsys, *elsewhere)
    same = [*NANO, f"images={images}", f"output={images}", "everything=true", "overwrite=true"]
    assert "the folder of the images; name another" in told(monkeypatch, capsys, *same)


def test_whatever_is_wrong_with_one_image_the_others_are_done(images, tmp_path, monkeypatch, capsys):
    Image.fromarray(disc()).save(images / "really_a_png.tif", format="PNG")
    for name in ("q.png", "q.jpg", "q.png.png"):  # whose outputs have names of their own
        Image.fromarray(disc()).save(images / name)
    given = Wanted.find

    def fails_once(self, finder, name, pixels):
        if name == "a.png":
            raise ZeroDivisionError("of this image")
        return given(self, finder, name, pixels)

    monkeypatch.setattr(Wanted, "find", fails_once)
    output = tmp_path / "M"
    message = told(monkeypatch, capsys, *NANO, f"images={images}", f"output={output}", "boxes=[[20,15,60,55]]")
    assert "1 of 7 images were not done:\n  a.png: ZeroDivisionError: of this image" in message
    assert len({image["file_name"] for image in COCO(str(output / "instances.json")).imgs.values()}) == 6
    assert len([*(output / "labels").rglob("*.*")]) == 6


def test_what_other_settings_found_is_gone_when_it_is_overwritten(images, tmp_path, monkeypatch):
    output = tmp_path / "M"
    run(monkeypatch, *NANO, f"images={images}", f"output={output}", "boxes=[[20,15,60,55]]")
    (output / "labels" / "notes.txt").write_text("a person's")
    arguments = [*NANO, f"images={images / 'a.png'}", f"output={output}", "boxes=[[20,15,61,55]]", "overwrite=true"]
    run(monkeypatch, *arguments)
    assert sorted(path.name for path in (output / "labels").rglob("*.*")) == ["a.png", "notes.txt"]
    first = (output / "labels" / "a.png").stat().st_mtime_ns
    run(monkeypatch, *arguments)  # the same command goes on
    assert (output / "labels" / "a.png").stat().st_mtime_ns == first


def test_numbers_may_be_names(images, tmp_path, monkeypatch):
    boxes = {"a.png": [{"box": [20, 15, 60, 55], "category": 3}], "b.jpg": [[20, 15, 60, 55]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    places = [f"images={images}", f"output={tmp_path / 'M'}", f"boxes={tmp_path / 'boxes.json'}"]
    run(monkeypatch, *NANO, *places)
    assert {one["name"] for one in COCO(str(tmp_path / "M" / "instances.json")).cats.values()} == {"3", "object"}


def test_a_person_who_stops_it_is_told_that_it_goes_on(images, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Wanted, "find", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *NANO, f"images={images}", f"output={tmp_path / 'M'}", "boxes=[[20,15,60,55]]")
    assert stopped.value.code == 1
    assert capsys.readouterr().err.strip() == "stopped; the same command goes on"


def test_masks_that_are_older_than_the_checkpoint_are_made_anew(checkpoint, images, tmp_path, monkeypatch):
    run_folder, output = tmp_path / "run", tmp_path / "M"
    run_folder.mkdir()
    (run_folder / "best.ckpt").write_bytes((checkpoint.parent / "best.ckpt").read_bytes())
    arguments = [f"checkpoint={run_folder}", f"images={images}", f"output={output}", "boxes=[[20,15,60,55]]"]
    run(monkeypatch, *arguments, "device=cpu")
    first = (output / "labels" / "a.png").stat().st_mtime_ns
    run(monkeypatch, *arguments, "device=cpu")
    assert (output / "labels" / "a.png").stat().st_mtime_ns == first
    os.utime(run_folder / "best.ckpt")  # trained on
    run(monkeypatch, *arguments, "device=cpu")
    assert (output / "labels" / "a.png").stat().st_mtime_ns > first


def test_a_request_that_failed_does_not_take_the_folder(images, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    arguments = [f"images={images}", f"output={tmp_path / 'M'}", "boxes=[[20,15,60,55]]", "device=cpu"]
    assert "other.safetensors" in told(monkeypatch, capsys, f"checkpoint={tmp_path / 'other.safetensors'}", *arguments)
    run(monkeypatch, "checkpoint=sam2_nano", "image_size=64", *arguments)
    assert len(COCO(str(tmp_path / "M" / "instances.json")).imgs) == 3


def test_what_was_found_is_no_image_where_the_output_lies_among_the_images(images, monkeypatch):
    arguments = [*NANO, f"images={images}", f"output={images / 'M'}", "boxes=[[20,15,60,55]]"]
    for _ in range(2):
        run(monkeypatch, *arguments)
    assert len(COCO(str(images / "M" / "instances.json")).imgs) == 3


def test_numbers_in_a_detectors_results_are_of_a_coco_file(images, tmp_path, monkeypatch, capsys):
    results = [{"image_id": 41, "category_id": 7, "bbox": [20, 15, 40, 40], "score": 0.5}]
    (tmp_path / "results.json").write_text(json.dumps(results))
    content = {"images": [{"id": 41, "file_name": "b.jpg"}], "categories": [{"id": 7, "name": "coin"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    arguments = [*NANO, f"images={images}", f"output={tmp_path / 'M'}", f"boxes={tmp_path / 'results.json'}"]
    assert "boxes_of= names the COCO file" in told(monkeypatch, capsys, *arguments)
    run(monkeypatch, *arguments, f"boxes_of={tmp_path / 'coco.json'}")
    coco = COCO(str(tmp_path / "M" / "instances.json"))
    (one,) = coco.anns.values()
    assert coco.imgs[one["image_id"]]["file_name"] == "b.jpg"
    assert coco.cats[one["category_id"]]["name"] == "coin"
    (tmp_path / "coco.json").write_text("[]")
    wrong = [*NANO, f"images={images}", f"output={tmp_path / 'N'}", f"boxes={tmp_path / 'results.json'}"]
    assert "expected a COCO file" in told(monkeypatch, capsys, *wrong, f"boxes_of={tmp_path / 'coco.json'}")


def test_bands_are_chosen(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 3000, (4, 70, 90)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "four.tif", bands, photometric="minisblack", planarconfig="separate")
    shown = np.stack([bands[2], bands[1], bands[0]])
    tifffile.imwrite(tmp_path / "three.tif", shown, photometric="rgb", planarconfig="separate")
    for name in ("four", "three"):
        arguments = [*NANO, f"images={tmp_path / name}.tif", f"output={tmp_path / name}", "boxes=[[20,15,60,55]]"]
        if name == "four":
            assert "channels=[3,2,1] beside images=" in told(monkeypatch, capsys, *arguments)
            assert "data.channels=[0, 2, 1]: expected" in told(monkeypatch, capsys, *arguments, "channels=[0,2,1]")
        run(monkeypatch, *arguments, f"channels={'[3,2,1]' if name == 'four' else '[1,2,3]'}")
    labels = [tifffile.imread(tmp_path / name / "labels" / f"{name}.tif") for name in ("four", "three")]
    assert np.array_equal(*labels)


def test_it_is_said_what_keeps_objects_from_being_found(tmp_path, monkeypatch, capsys):
    Image.fromarray(disc(40, 600)).save(tmp_path / "long.png")
    arguments = [*NANO[:2], "device=cpu", f"images={tmp_path / 'long.png'}", "everything=true"]
    strict = ["grid.points_per_side=2", "grid.pred_iou_thresh=0.99"]
    run(monkeypatch, *arguments, *strict, f"output={tmp_path / 'M'}")
    said = capsys.readouterr().out
    assert "1 of 1 images over 8 times as large as the 64 pixels that the model looks at; tile.side=256" in said
    assert "0.5 and 0.8 keep more" in said
    run(monkeypatch, *arguments, *LOOSE, f"output={tmp_path / 'N'}", "tile.side=256", "tile.overlap=64")
    assert "hint" not in capsys.readouterr().out


def test_one_bad_image_is_named_and_the_others_are_done(images, tmp_path, monkeypatch, capsys):
    (images / "bad.png").write_bytes(b"no image at all")
    Image.fromarray(disc(20, 20)).save(images / "small.png")  # on which the box does not lie
    arguments = [*NANO, f"images={images}", f"output={tmp_path / 'M'}", "boxes=[[30,25,60,55]]"]
    message = told(monkeypatch, capsys, *arguments)
    assert "2 of 5 images were not done" in message
    assert "bad.png: unreadable file" in message
    assert "small.png: box 0" in message
    assert len(COCO(str(tmp_path / "M" / "instances.json")).imgs) == 3


def test_labels_of_a_tiff_lie_where_the_tiff_lies(tmp_path, monkeypatch):
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
    tags = [
        (33550, 12, 3, (0.5, 0.5, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 1000.0, 2000.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
    ]
    tifffile.imwrite(tmp_path / "map.tif", disc(), photometric="rgb", extratags=tags)
    output = tmp_path / "M"
    run(monkeypatch, *NANO, f"images={tmp_path / 'map.tif'}", f"output={output}", "boxes=[[20,15,60,55]]")
    with tifffile.TiffFile(output / "labels" / "map.tif") as file:
        assert file.pages[0].shape == (70, 90)
        assert file.pages[0].geotiff_tags["ProjectedCSTypeGeoKey"] == 32633
        assert file.pages[0].tags[33550].value == (0.5, 0.5, 0.0)
        labels = file.asarray()
    content = json.loads((output / "polygons" / "map.geojson").read_text())
    assert content["crs"]["properties"]["name"].endswith("EPSG::32633")
    rows, columns = np.nonzero(labels)
    rings = content["features"][0]["geometry"]["coordinates"]
    outer = np.array(rings[0] if content["features"][0]["geometry"]["type"] == "Polygon" else rings[0][0])
    assert 1000 + columns.min() / 2 <= outer[:, 0].min() <= outer[:, 0].max() <= 1000 + (columns.max() + 1) / 2
    assert 2000 - (rows.max() + 1) / 2 <= outer[:, 1].min() <= outer[:, 1].max() <= 2000 - rows.min() / 2


def test_labels_of_a_volume_lie_where_the_volume_lies(tmp_path, monkeypatch):
    volume = np.stack([disc(40, 50)[..., 0].T] * 3, axis=2).astype(np.int16)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 7, 8, 9
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "scan.nii.gz")
    (tmp_path / "boxes.json").write_text(json.dumps({"scan.nii.gz/1": [[20, 15, 45, 39]]}))
    output = tmp_path / "M"
    given = f"boxes={tmp_path / 'boxes.json'}"
    run(monkeypatch, *NANO, f"images={tmp_path / 'scan.nii.gz'}", f"output={output}", given)
    labels = nibabel.load(output / "labels" / "scan.nii.gz")
    assert labels.shape == volume.shape
    assert np.allclose(labels.affine, affine)
    found = np.asarray(labels.dataobj)
    assert not found[..., [0, 2]].any()
    (annotation,) = COCO(str(output / "instances.json")).anns.values()
    shown = mask_utils.decode(annotation["segmentation"])  # the patient's right at the left, front at the top
    assert shown.any()
    assert ((found[..., 1] > 0) == shown[::-1, ::-1].T).all()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("axis", ["axial", "sagittal"])
def test_label_volumes_have_the_voxels_place_and_format_of_their_source(tmp_path, suffix, axis):
    import SimpleITK

    voxels = np.random.default_rng(0).integers(0, 2, (4, 5, 6)).astype(np.int16)  # z, y, x
    source = SimpleITK.GetImageFromArray(voxels * 500)
    source.SetSpacing((0.5, 1.5, 2.0))
    source.SetOrigin((7.0, -8.0, 9.0))
    source.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))  # lying on a side, upside down
    SimpleITK.WriteImage(source, str(tmp_path / f"scan{suffix}"))
    volume = Volume(tmp_path / f"scan{suffix}", View(axis, window=(0, 500)))
    planes = np.stack([(pixels[0] > 127).numpy() for pixels in volume.slices()])
    assert volume.label_suffix == suffix
    volume.write_labels(tmp_path / f"labels{suffix}", planes.astype(np.int16))
    written = SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written), voxels)
    for ask in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, ask)() == pytest.approx(getattr(source, ask)(), abs=1e-5)


def test_labels_of_a_dicom_series_are_a_volume_where_its_slices_are(tmp_path, monkeypatch):
    write_series(tmp_path / "patients" / "ann", places=(0.0, 2.0, 4.0), size=(40, 30))
    output = tmp_path / "M"
    run(monkeypatch, *NANO, f"images={tmp_path / 'patients'}", f"output={output}", "boxes=[[5,5,20,30]]")
    labels = nibabel.load(output / "labels" / "ann.nii.gz")
    assert labels.shape == (30, 40, 3)
    assert np.allclose(labels.header.get_zooms(), (0.5, 1.5, 2.0))
    corner = labels.affine @ [*(n - 1 for n in labels.shape[:2]), 0, 1]  # right and front, where DICOM counts from
    assert np.allclose(corner[:3], (0, 0, 0))
    names = {image["file_name"] for image in COCO(str(output / "instances.json")).imgs.values()}
    assert names == {"ann/0", "ann/1", "ann/2"}


def test_slices_of_a_volume_look_as_in_training(tmp_path):
    make_volumes(tmp_path, 1)
    (path,) = (tmp_path / "imagesTr").iterdir()
    for axis, window, neighbors in (("coronal", (-50.0, 90.0), True), ("thick", None, False)):
        source = VolumeSource(str(tmp_path), split=(0, 0, 1), axis=axis, window=window, neighbors=neighbors)
        images = source.splits()["test"]
        slices = [*Volume(path, View(axis, window, neighbors=neighbors)).slices()]
        for index in range(len(images)):
            assert torch.equal(slices[images.slice_of(index).place], images.read(index).image)


def test_volumes_are_looked_at_as_the_run_was_trained(tmp_path):
    make_volumes(tmp_path / "data", 4)
    source = VolumeSource(str(tmp_path / "data"), axis="sagittal", window="bone", split=(0.5, 0.25, 0.25))
    loading = Loading(batch_size=1, min_area=0, num_workers=0)
    trainer = {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False}
    settings = Settings(data=source, model=ModelChoice(image_size=64), loader=loading, trainer=trainer)
    checkpoint = fit(settings, tmp_path / "run").checkpoint
    for given in (checkpoint, tmp_path / "run"):
        assert volume_view(given) == View("sagittal", (-500, 1300))
    assert volume_view(checkpoint, "lung") == View("sagittal", (-1350, 150))
    assert volume_view("sam2_nano") == View()


def test_another_image_of_the_same_name_is_done_anew(tmp_path, monkeypatch):
    for name, shift in (("A", 0), ("B", 30)):
        (tmp_path / name).mkdir()
        Image.fromarray(disc(shift=shift)).save(tmp_path / name / "1.png")
    output = tmp_path / "M"
    boxes = {name: [[20 + shift, 15, 60 + shift, 55]] for name, shift in (("A", 0), ("B", 30))}
    found = []
    for name in ("A", "B"):
        (tmp_path / "boxes.json").write_text(json.dumps({"1.png": boxes[name]}))
        given = f"boxes={tmp_path / 'boxes.json'}"
        run(monkeypatch, *NANO, f"images={tmp_path / name}", f"output={output}", given, "formats=[labels]")
        found.append(np.asarray(Image.open(output / "labels" / "1.png")))
    assert not np.array_equal(*found)


def test_images_of_a_data_source(tmp_path, monkeypatch, capsys):
    toy = ["data=toy", "data.domain=shapes", "data.image_size=64", "data.num_train=1", "data.num_val=1"]
    output = tmp_path / "M"
    run(monkeypatch, *NANO, *toy, "data.num_test=2", f"output={output}", "boxes=[[5,5,40,40]]", "formats=[labels]")
    assert len(COCO(str(output / "instances.json")).imgs) == 2
    own = [*NANO, *toy, "data.num_test=1", f"output={tmp_path / 'N'}", "boxes=[[5,5,40,40]]"]
    assert "data.window=..." in told(monkeypatch, capsys, *own, "window=[0,10]")
    assert "split=all: the data have" in told(monkeypatch, capsys, *own, "split=all")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing given to look for"),
        (["everything=true", "boxes=[[1,1,2,2]]"], "boxes and everything given"),
        (["everything=true", "formats=[svg]"], "formats=svg"),
        (["boxes=nowhere.json"], "boxes=nowhere.json: no such file"),
        (["boxes=[[1,2,3]]"], "expected a file, or boxes for every image"),
        (["boxes=[[5,1,2,2]]"], "ends before it begins"),
        (["everything=true", "grid.points_per_side=0"], "grid.points_per_side=0"),
        (["everything=true", "tile.side=64"], "tile.overlap=256"),
        (["everything=true", "min_score=2"], "min_score=2"),
        (["everything=true", "images=nowhere"], "images=nowhere: no such file or folder"),
        (["everything=true", f"images={__file__}"], "expected a folder, or a file of"),
    ],
)
def test_mistakes_are_told(images, tmp_path, monkeypatch, capsys, arguments, words):
    given = [*NANO, f"output={tmp_path / 'M'}"]
    given += [] if any("images" in argument for argument in arguments) else [f"images={images}"]
    assert words in told(monkeypatch, capsys, *given, *arguments)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "has no boxes"),
        ("[1", "expected a csv with the columns"),
        ('{"a.png": [[1, 2, NaN, 4]]}', "not finite"),
        ('{"z.png": [[1, 2, 3, 4]]}', "is of none of the 3 images"),
        ('{"a.png": [[1, 2, 3]]}', "no boxes"),
        ("7", "no boxes"),
    ],
)
def test_files_without_prompts_for_the_images_are_told(images, tmp_path, monkeypatch, capsys, content, words):
    (tmp_path / "boxes.json").write_text(content)
    given = [*NANO, f"output={tmp_path / 'M'}", f"images={images}", f"boxes={tmp_path / 'boxes.json'}"]
    assert words in told(monkeypatch, capsys, *given)
    assert not (tmp_path / "M").exists()


def test_a_folder_without_images_and_a_checkpoint_of_something_else(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    nothing = [*NANO, f"images={tmp_path / 'empty'}", f"output={tmp_path / 'M'}", "everything=true"]
    assert "no images in it but 1 other files" in told(monkeypatch, capsys, *nothing)


def test_the_settings_that_are_shown_are_the_defaults():
    config = OmegaConf.load(CONFIGS / "predict.yaml")
    assert dict(config.grid) == vars(Everything())
    everything = dict(OmegaConf.load(CONFIGS / "prompts" / "everything.yaml"))
    assert everything == {"_target_": f"{Everything.__module__}.Everything", **config.grid}
    assert dict(config.tile) == vars(Tiling())


def test_evaluation_of_everything_says_what_keeps_recall_low(checkpoint, tmp_path, monkeypatch, capsys):
    GlobalHydra.instance().clear()
    grid = ["prompts.points_per_side=1", "prompts.pred_iou_thresh=0.99"]
    arguments = [f"checkpoint={checkpoint}", "prompts=everything", *grid, f"output={tmp_path / 'report'}"]
    monkeypatch.setattr(sys, "argv", ["sam-evaluate", *arguments])
    evaluate.main()
    assert "hint: prompts.pred_iou_thresh=0.99" in capsys.readouterr().out


def test_evaluation_of_everything_reports_recall_of_both_models(checkpoint, tmp_path, monkeypatch):
    GlobalHydra.instance().clear()
    grid = [f"prompts.{setting.removeprefix('grid.')}" for setting in LOOSE if setting.startswith("grid.")]
    arguments = [f"checkpoint={checkpoint}", "prompts=everything", *grid, f"output={tmp_path / 'report'}"]
    monkeypatch.setattr(sys, "argv", ["sam-evaluate", *arguments])
    evaluate.main()
    report = json.loads((tmp_path / "report" / "everything.json").read_text())
    for model in ("untuned", "tuned"):
        recalls = [report[model][f"AR@{limit}"] for limit in (1, 10, 100, 1000)]
        assert recalls == sorted(recalls)
        assert all(0 <= recall <= 1 for recall in recalls)
