"""Videos in files: frames by number, masks beside them, and what may be wrong with either."""

import json
import pickle

import av
import numpy as np
import orjson
import pytest
import torch
from pycocotools import mask as mask_utils

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.video.coco_video import CocoVideoSource
from sam_train.data.sources.video.sav import SavSource
from sam_train.data.sources.video.video_file import VideoFile
from sam_train.errors import InputError
from tests.data.sources.test_davis import write_clip

SIZE = 48, 64  # height, width


def gray(frame):
    return 20 + 9 * frame % 230


def write_video(path, num_frames=24, late=None, **options):
    """Write a video whose frames are told apart by their gray."""
    pictures = [np.full((*SIZE, 3), gray(frame), np.uint8) for frame in range(num_frames)]
    return write_pictures(path, pictures, late, **options)


def write_pictures(path, pictures, late=None, **options):
    """Write a video with a key frame now and then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=24, options={"g": "10", "bf": "2", "crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(pictures):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts = number + (3 if late is not None and number >= late else 0)
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def rle(mask):
    found = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [*found["size"]], "counts": found["counts"].decode()}


def square(place):
    mask = np.zeros(SIZE, bool)
    mask[8:24, place : place + 12] = True
    return mask


def write_sav(folder, name, num_frames=24, **options):
    write_video(folder / f"{name}.mp4", num_frames, **options)
    there = [[rle(square(2 + step)), rle(square(40)) if step % 2 else None] for step in range(num_frames // 4)]
    (folder / f"{name}_manual.json").write_bytes(orjson.dumps({"video_id": name, "masklet": there}))


def shade(image):
    return float(image.float().mean())


def test_frames_are_had_by_their_number_in_any_order(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mp4"))
    assert len(video) == 24
    for frame in (0, 1, 2, 20, 5, 6, 23, 11, 11, 0):
        assert abs(shade(video.read(frame)) - gray(frame)) < 4
    assert video.read(3).shape == (3, *SIZE)
    again = pickle.loads(pickle.dumps(video))
    assert torch.equal(again.read(17), video.read(17))


class Counting(VideoFile):
    decoded = 0

    def _seek(self, time):
        super()._seek(time)
        self._frames = self.count(self._frames)

    def count(self, frames):
        for frame in frames:
            self.decoded += 1
            yield frame


def test_frames_are_sought_and_not_read_through(tmp_path):
    video = Counting(write_video(tmp_path / "a.mp4", 60))
    video.read(51)  # key frames are at most ten apart
    before = video.decoded
    assert before <= 10
    video.read(53)
    assert video.decoded == before + 2
    video.read(3)
    assert video.decoded <= before + 2 + 4


def test_a_video_that_is_cut_short_or_none_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.mp4"):
        VideoFile(path)
    whole = write_video(path, movflags="faststart").read_bytes()  # its index comes first
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError, match=r"a\.mp4: .*cut short: 24 frames were written"):
        VideoFile(path)
    path.write_bytes(b"no video at all")
    with pytest.raises(InputError, match=r"a\.mp4"):
        VideoFile(path)


def test_every_fourth_frame_of_sa_v_is_annotated(tmp_path):
    for number in range(3):
        write_sav(tmp_path / "sav_000", f"sav_{number:06}")
    clips = SavSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert [clip.name for clip in clips.clips] == [f"sav_000/sav_{number:06}" for number in range(3)]
    assert list(clips.clips[0].annotated) == [0, 4, 8, 12, 16, 20]
    assert [clips.read_frame(0, frame).value.tolist() for frame in (0, 1, 4)] == [[1], [], [1, 2]]
    sample = clips.read_frame(1, 8)
    assert torch.equal(sample.masks()[0], torch.from_numpy(square(4)))
    assert abs(shade(sample.image) - gray(8)) < 4
    check_sources({"test": clips})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"late": 13}, r"sav_0\.mp4: frame 13 comes 4\.0 times as late as others do"),
        ({"mask": np.zeros((9, 9), bool)}, r"clip sav_0, frame 00000, object 1: run lengths of 9 x 9"),
        ({"json": "{"}, r"sav_0_manual\.json: unexpected end of data"),
        ({"json": "{}"}, r"sav_0_manual\.json: has no list of frames under masklet"),
        ({"json": json.dumps({"masklet": [[None]] * 30})}, r"30 annotated frames, but sav_0\.mp4 has 24"),
    ],
)
def test_what_is_wrong_with_a_video_of_sa_v_is_named(tmp_path, change, message):
    write_sav(tmp_path, "sav_0", late=change.get("late"))
    path = tmp_path / "sav_0_manual.json"
    if "mask" in change:
        path.write_bytes(orjson.dumps({"masklet": [[rle(change["mask"])]] * 6}))
    if "json" in change:
        path.write_text(change["json"])
    with pytest.raises(InputError, match=message):
        check_sources(SavSource(str(tmp_path), split=(0, 0, 1)).splits())


def write_coco_video(root, **changes):
    videos, annotations = [], []
    for number in range(3):
        write_clip(root, f"clip{number}", {}, frames=range(4))
        names = [f"clip{number}/{frame:05d}.jpg" for frame in range(4)]
        videos.append({"id": number + 5, "height": 30, "width": 40, "length": 4, "file_names": names})
        ring = [[4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]]
        for track in range(2):
            parts = [None if frame == 2 and track else ring for frame in range(4)]
            of_track = {"id": len(annotations) + 1, "video_id": number + 5, "category_id": track + 1}
            annotations.append({**of_track, "segmentations": parts, "iscrowd": 0})
    content = {"videos": videos, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (root / "instances.json").write_text(json.dumps({**content, **changes}))
    return content


def test_a_coco_video_has_an_object_for_each_annotation(tmp_path):
    write_coco_video(tmp_path)
    clips = CocoVideoSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert [(clip.name, len(clip.frames)) for clip in clips.clips] == [(f"clip{number}", 4) for number in range(3)]
    assert clips.categories == ("cat", "dog")
    first, third = clips.read_frame(1, 0), clips.read_frame(1, 2)
    assert (first.value.tolist(), first.category) == ([1, 2], ("cat", "dog"))
    assert (third.value.tolist(), third.category) == ([1], ("cat",))
    assert first.masks()[0].sum() == 16 * 16
    check_sources({"test": clips})


def test_what_is_wrong_with_a_coco_video_is_named(tmp_path):
    content = write_coco_video(tmp_path)
    outside = [{**content["videos"][0], "file_names": ["../a.jpg"] * 4}, *content["videos"][1:]]
    cases = {
        r"lacks the lists videos and annotations": {"videos": None},
        r"annotation 1: its segmentations are not one for each frame": {"videos": content["videos"][1:]},
        r"leads out of": {"videos": outside},
    }
    for message, changes in cases.items():
        (tmp_path / "instances.json").write_text(json.dumps({**content, **changes}))
        with pytest.raises(InputError, match=message):
            CocoVideoSource(str(tmp_path)).splits()
