"""Names of the frames of clips among features that are kept."""

import pytest

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.clip_views import ClipViews
from sam_train.data.loading.views import PLAIN, Views
from sam_train.data.sources.video.davis import DavisSource
from sam_train.data.sources.volume.source import VolumeSource
from sam_train.data.world.film import ToyVideoSource
from sam_train.preprocessing import Preprocessing
from tests.data.sources.test_davis import several, write_clip
from tests.data.sources.volume_files import make_volumes

INPUT = Preprocessing(64, "square")


def names(clips, **options):
    views = ClipViews(clips.as_clips(), INPUT, **options)
    return [views.name(index, view) for view, index in views.indices()]


@pytest.mark.parametrize("kind", ["davis", "toy", "volume"])
def test_a_frame_has_the_name_it_has_among_images(kind, tmp_path):
    if kind == "davis":
        several(tmp_path)
        images = DavisSource(str(tmp_path), split=(0, 0, 1)).splits()["test"]
    elif kind == "toy":
        images = ToyVideoSource(0, 0, 2, num_frames=3, image_size=64).splits()["test"]
    else:
        images = VolumeSource(str(make_volumes(tmp_path, 2)), split=(0, 0, 1)).splits()["test"]
    of_images = [Views(images, INPUT).name(index, PLAIN) for index in range(len(images))]
    of_frames = names(images)
    assert len(set(of_frames)) == len(of_frames)
    assert set(of_images) <= set(of_frames)
    assert (len(of_images), len(of_frames)) == {"davis": (12, 36), "toy": (6, 6), "volume": (8, 8)}[kind]


def test_a_name_changes_with_the_frame_also_where_it_is_not_annotated(tmp_path):
    several(tmp_path)

    def now():
        return names(DavisSource(str(tmp_path), split=(0, 0, 1)).splits()["test"])

    before = now()
    write_clip(tmp_path, "clip2", {}, frames=[1])
    assert [place for place, (old, new) in enumerate(zip(before, now(), strict=True)) if old != new] == [2 * 6 + 1]


def test_views_are_of_the_frames_that_are_seen_and_plain_ones_are_not_of_the_augmentation():
    clips = ToyVideoSource(2, 0, 0, num_frames=5, image_size=64).splits()["train"]
    assert len(names(clips, spans=[range(1, 3), range(2, 5)])) == 5
    augmented = names(clips, augmentation=Augmentation(), number=3)
    assert len(set(augmented)) == 3 * 10
    assert set(names(clips)) < set(augmented)


def test_an_augmented_frame_of_a_clip_is_not_taken_for_the_same_frame_as_an_image():
    """All frames of a clip are changed alike, images each in their own way."""
    images = ToyVideoSource(1, 0, 0, num_frames=3, image_size=64).splits()["train"]
    options = {"augmentation": Augmentation(), "number": 3}
    views = Views(images, INPUT, **options)
    of_images = {(view, views.name(index, view)) for view, index in views.indices()}
    clips = ClipViews(images.as_clips(), INPUT, **options)
    of_clips = {(view, clips.name(index, view)) for view, index in clips.indices()}
    assert {view for view, _ in of_images & of_clips} == {PLAIN}
