"""``sam-predict follow=true``: objects through videos, folders of frames and volumes, into files."""

import json
import re

import nibabel
import numpy as np
import pytest
from PIL import Image

from sam_train.metrics.rle import decode_mask
from tests.cli.test_predict import run, told
from tests.data.sources.test_video_files import write_pictures

SIZE = 96, 128


def picture(frame):
    """A bright square on noise that goes to the right."""
    pixels = np.random.default_rng(3).integers(0, 60, (*SIZE, 3)).astype(np.uint8)
    pixels[30:60, 20 + 4 * frame : 55 + 4 * frame] = (220, 180, 40)
    return pixels


def truth(frame):
    mask = np.zeros(SIZE, bool)
    mask[30:60, 20 + 4 * frame : 55 + 4 * frame] = True
    return mask


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def found_in(folder, name):
    content = json.loads((folder / "instances.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return {names[one["image_id"]]: one for one in content["annotations"] if names[one["image_id"]].startswith(name)}


def test_objects_of_a_video_are_followed_and_kept_when_the_command_is_repeated(tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path / "a.mp4", [picture(frame) for frame in range(5)])
    command = ["checkpoint=sam2_nano", f"images={tmp_path / 'a.mp4'}", f"output={tmp_path / 'out'}", "follow=true"]
    run(monkeypatch, *command, "boxes=[[20,30,55,60]]")
    assert "1 objects followed in 1 of 1" in capsys.readouterr().out
    for frame in range(5):
        labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "a" / f"{frame:05}.png"))
        assert iou(labels == 1, truth(frame)) > 0.7
    found = found_in(tmp_path / "out", "a.mp4")
    assert iou(decode_mask(found["a.mp4/4"]["segmentation"]), truth(4)) > 0.7
    assert {one["track_id"] for one in found.values()} == {1}
    assert (tmp_path / "out" / "overlays" / "a.mp4").stat().st_size > 500
    before = (tmp_path / "out" / "instances" / "a.json").stat().st_mtime_ns
    run(monkeypatch, *command, "boxes=[[20,30,55,60]]")
    assert (tmp_path / "out" / "instances" / "a.json").stat().st_mtime_ns == before


def test_a_prompt_in_the_middle_is_followed_both_ways(tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    for frame in range(4):
        Image.fromarray(picture(frame)).save(tmp_path / "clip" / f"{frame + 8}.png")  # 10 comes after 9
    (tmp_path / "points.json").write_text(json.dumps({"clip/2": [{"points": [[45, 45]], "labels": [1]}]}))
    places = [f"images={tmp_path / 'clip'}", f"output={tmp_path / 'out'}", f"points={tmp_path / 'points.json'}"]
    run(monkeypatch, "checkpoint=sam2_nano", *places, "follow=true", "formats=[labels]")
    found = found_in(tmp_path / "out", "clip")
    assert sorted(found) == [f"clip/{frame}" for frame in range(4)]
    assert iou(decode_mask(found["clip/0"]["segmentation"]), truth(0)) > 0.6
    both = [{"points": [[45, 45]], "labels": [1]}, {"points": [[110, 10]], "labels": [1]}]
    (tmp_path / "points.json").write_text(json.dumps({"clip/2": both}))
    run(monkeypatch, "checkpoint=sam2_nano", *places, "follow=true", "formats=[labels]")
    content = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert {one["track_id"] for one in content["annotations"]} == {1, 2}  # of the prompts as they are now


def test_videos_of_one_name_do_not_take_each_others_place(tmp_path, monkeypatch):
    for name in ("cam.1.mp4", "cam.2.mp4", "cam.1.mkv"):
        write_pictures(tmp_path / "in" / name, [picture(frame) for frame in range(2)])
    places = [f"images={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "boxes=[[20,30,55,60]]"]
    run(monkeypatch, "checkpoint=sam2_nano", *places, "follow=true", "formats=[labels]")
    found = sorted(path.name for path in (tmp_path / "out" / "labels").iterdir())
    assert found == ["cam.1.mkv", "cam.1.mp4", "cam.2"]


def test_a_volume_comes_back_with_its_geometry(tmp_path, monkeypatch):
    voxels = np.stack([picture(frame)[..., 0].T[::-1, ::-1] for frame in range(5)], axis=2).astype(np.int16)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = 7
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    places = [f"images={tmp_path / 'scan.nii.gz'}", f"output={tmp_path / 'out'}"]
    run(monkeypatch, "checkpoint=sam2_nano", *places, "follow=true", "boxes=[[28,30,63,60]]", "formats=[labels]")
    labels = nibabel.load(tmp_path / "out" / "labels" / "scan.nii.gz")
    assert np.allclose(labels.affine, affine)
    assert labels.shape == voxels.shape
    assert iou(np.asarray(labels.dataobj) == 1, voxels > 150) > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images=gone.mp4", "boxes=[[1,2,3,4]]"], "images=gone.mp4: no such file or folder"),
        (["images=.", "boxes=[[1,2,3,4]]"], "needs a video, a volume, a folder of frames"),
        (["images=bad.mp4", "boxes=[[1,2,3,4]]"], r"1 of 1 were not done:\s+bad\.mp4"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "bad" in arguments[0]:
        (tmp_path / "bad.mp4").write_bytes(b"no video")
    error = told(monkeypatch, capsys, "checkpoint=sam2_nano", "output=out", "follow=true", *arguments)
    assert re.search(message, error)
