"""Clips in folders of frames and label images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_train.data.sources.check import check_sources
from sam_train.data.sources.video.davis import DavisSource
from sam_train.errors import InputError

SIZE = 40, 30  # width, height


def write_clip(root: Path, name: str, objects: dict[int, dict[int, int]], frames=range(6), between="") -> None:
    """A clip whose annotated frames have objects at columns: ``objects[frame][number]``."""
    for frame in frames:
        image = root / "JPEGImages" / between / name / f"{frame:05d}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([len(name), *name.encode(), frame]).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
        Image.fromarray(pixels).save(image)
        if frame in objects:
            labels = np.zeros(SIZE[::-1], np.uint8)
            for number, column in objects[frame].items():
                labels[5:15, column : column + 8] = number
            mask = Image.fromarray(labels).convert("P")
            mask.putdata(labels.ravel().tolist())
            mask.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
            path = root / "Annotations" / between / name / f"{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask.save(path)


def several(root: Path, number: int = 6, **options) -> None:
    for index in range(number):
        write_clip(root, f"clip{index}", {0: {1: 2, 2: 20}, 3: {2: 22}}, **options)


@pytest.mark.parametrize("between", ["", "480p"])
def test_frames_have_the_objects_of_their_label_image_and_others_none(tmp_path, between):
    several(tmp_path, between=between)
    clips = DavisSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert [clip.name for clip in clips.clips] == [f"clip{index}" for index in range(6)]
    assert list(clips.clips[0].annotated) == [0, 3]
    assert [clips.read_frame(0, frame).value.tolist() for frame in range(4)] == [[1, 2], [], [], [2]]
    sample = clips.read_frame(0, 3)
    assert sample.size == SIZE[::-1]
    assert sample.masks()[0].nonzero().tolist()[0] == [5, 22]
    assert len(clips.read_frame(0, 0, with_image=False).image) == 0


def test_annotated_frames_are_images_in_the_group_of_their_clip(tmp_path):
    several(tmp_path)
    splits = DavisSource(str(tmp_path), split=(0.5, 0.25, 0.25)).splits()
    names = [{clip.name for clip in split.clips} for split in splits.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 6
    train = splits["train"]
    assert len(train) == 2 * len(train.clips)
    assert train.ids[0] == f"{train.clips[0].name}/00000"
    assert train.group(1) == train.clips[0].name
    assert train.read(1).value.tolist() == [2]
    check_sources(splits)


def test_lists_of_an_image_set_name_the_clips_of_the_splits(tmp_path):
    several(tmp_path)
    folder = tmp_path / "ImageSets" / "2017"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("clip1\nclip2\n")
    (folder / "val.txt").write_text("clip4\n")
    with pytest.warns(UserWarning, match="no images for the test"):
        splits = DavisSource(str(tmp_path), image_set="2017").splits()
    assert [clip.name for clip in splits["train"].clips] == ["clip1", "clip2"]
    assert [clip.name for clip in splits["test"].clips] == ["clip4"]
    (folder / "val.txt").write_text("clip9\n")
    with pytest.raises(InputError, match=r"val.txt: names the clip clip9"):
        DavisSource(str(tmp_path), image_set="2017").splits()
    with pytest.raises(InputError, match=r"data.image_set=2016: no train.txt .* there are 2017"):
        DavisSource(str(tmp_path), image_set="2016").splits()


def test_a_frame_that_is_missing_in_the_middle_is_named(tmp_path):
    several(tmp_path, 2)
    write_clip(tmp_path, "gap", {0: {1: 2}}, frames=[0, 1, 2, 5, 6])
    with pytest.raises(InputError, match=r"clip gap: after frame 00002 comes frame 00005"):
        DavisSource(str(tmp_path)).splits()


def test_frames_may_be_a_constant_number_apart(tmp_path):
    write_clip(tmp_path, "five", {0: {1: 2}}, frames=range(0, 30, 5))
    assert len(DavisSource(str(tmp_path), split=(0, 0, 1)).splits()["test"].clips[0].frames) == 6


def test_a_mask_without_its_frame_is_named(tmp_path):
    several(tmp_path, 2)
    (tmp_path / "JPEGImages" / "clip1" / "00003.jpg").unlink()
    with pytest.raises(InputError, match="clip clip1: a mask of the frame 00003"):
        DavisSource(str(tmp_path)).splits()


def test_masks_of_another_size_and_objects_that_change_their_number_are_named(tmp_path):
    several(tmp_path, 2)
    write_clip(tmp_path, "sizes", {0: {1: 2}})
    Image.new("L", (10, 10), 1).save(tmp_path / "Annotations" / "sizes" / "00000.png")
    write_clip(tmp_path, "swap", {0: {1: 2}, 2: {3: 2}})
    splits = DavisSource(str(tmp_path), split=(0, 0, 1)).splits()
    with pytest.raises(InputError) as error:
        check_sources(splits)
    assert "clip sizes, frame 00000: the mask has 10 x 10 pixels, the frame 40 x 30" in str(error.value)
    assert "clip swap, frame 00002: object 3 is where object 1 was" in str(error.value)


def test_frames_of_several_sizes_are_named(tmp_path):
    several(tmp_path, 1)
    Image.new("RGB", (20, 20)).save(tmp_path / "JPEGImages" / "clip0" / "00004.jpg")
    with pytest.raises(InputError, match="clip clip0, frame 00004: 20 x 20 pixels, and 40 x 30 on frames before"):
        check_sources(DavisSource(str(tmp_path), split=(0, 0, 1)).splits())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "frames"}, r"data.images: no folder .*frames; folders there: Annotations, JPEGImages"),
        ({"masks": "../elsewhere"}, "leads out of"),
        ({"resolution": "1080p"}, "data.resolution=1080p: no folder"),
    ],
)
def test_folders_that_are_not_there_are_named(tmp_path, settings, message):
    several(tmp_path, 2)
    with pytest.raises(InputError, match=message):
        DavisSource(str(tmp_path), **settings).splits()


def test_objects_may_have_folders_of_their_own_and_overlap(tmp_path):
    write_clip(tmp_path, "clip", {})
    for number, left in enumerate((5, 12)):
        folder = tmp_path / "Annotations" / "clip" / f"{number:03d}"
        folder.mkdir(parents=True)
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[5:15, left : left + 10] = 255
        for frame in (0, 4)[: 2 - number]:
            Image.fromarray(mask).save(folder / f"{frame:05d}.png")
    clips = DavisSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    assert list(clips.clips[0].annotated) == [0, 4]
    sample = clips.read_frame(0, 0)
    assert [mask.sum() for mask in sample.each_mask()] == [100, 100]
    assert (sample.value.tolist(), clips.read_frame(0, 4).value.tolist()) == ([1, 2], [1])
    check_sources({"test": clips})
