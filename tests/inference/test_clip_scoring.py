"""Held-out clips are followed and scored as DAVIS does."""

import pytest
import torch

from sam_train.data.loading.clip_dataset import HeldOutClips
from sam_train.data.sources.video.clips import Clip, ClipSet
from sam_train.inference.clip_correcting import correct_clip
from sam_train.inference.clip_prompts import give_mask, prompt_object
from sam_train.inference.clip_scoring import score_clip
from sam_train.inference.film import film_frames, save_film, strip_of
from sam_train.inference.following import CLIP_PROTOCOLS, MASK, follow_clip
from sam_train.inference.video_session import VideoSession
from sam_train.label_planes import pack_masks
from sam_train.metrics.video import VIDEO_METRICS, contour_accuracy, region_similarity
from sam_train.structures import Sample
from tests.models.clips import tracking_model

SIZE = 60, 80
LATE = 2  # the frame on which the second object comes


class Squares(ClipSet):
    """Two squares that move; the second comes later; the last frame but one is not annotated."""

    def __init__(self):
        super().__init__([Clip("squares", tuple("012345"), (0, 1, 2, 3, 5))])

    def read_frame(self, clip, frame, with_image=True):
        masks = torch.zeros(2, *SIZE, dtype=torch.bool)
        masks[0, 5:25, 5 + 3 * frame : 30 + 3 * frame] = True
        masks[1, 35:55, 40:70] = frame >= LATE
        known = frame in self.clips[0].annotated
        packed = pack_masks(((number + 1, mask) for number, mask in enumerate(masks) if known), SIZE)
        image = torch.randint(0, 90, (3, *SIZE), generator=torch.Generator().manual_seed(frame), dtype=torch.uint8)
        image[:, masks.any(0)] += 120
        return Sample(f"squares/{frame}", image if with_image else image[:0], *packed, group="squares")


@pytest.fixture(scope="module")
def model():
    model = tracking_model().float()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 3
    return model


CLIP = HeldOutClips(Squares())[0]


def test_objects_are_scored_after_the_frame_they_are_prompted_on_and_without_the_last(model):
    rows = score_clip({"": model}, CLIP, CLIP_PROTOCOLS, VIDEO_METRICS).to_pylist()
    assert [(row["prompt"], row["object"], row["frames"]) for row in rows] == [
        (protocol, value, 3 if value == 1 else 1) for protocol in sorted(CLIP_PROTOCOLS) for value in (1, 2)
    ]
    assert {row["image"] for row in rows} == {"squares"}
    assert all(row["j_and_f"] == pytest.approx((row["j"] + row["f"]) / 2) for row in rows)


def test_scores_are_means_of_j_and_f_over_frames(model):
    masks = {MASK: CLIP_PROTOCOLS[MASK]}
    (first, _) = score_clip({"": model}, CLIP, masks, VIDEO_METRICS).to_pylist()
    pairs = [
        (followed.found["", MASK].masks[0].numpy(), next(followed.sample.each_mask()).numpy())
        for followed in follow_clip({"": model}, CLIP, masks)
        if followed.frame in (1, 2, 3)
    ]
    assert first["j"] == pytest.approx(sum(region_similarity(*pair) for pair in pairs) / 3)
    assert first["f"] == pytest.approx(sum(contour_accuracy(*pair) for pair in pairs) / 3)


def test_the_mask_that_is_given_is_what_is_found_on_its_frame(model):
    for followed in follow_clip({"": model}, CLIP, {MASK: CLIP_PROTOCOLS[MASK]}):
        found = followed.found["", MASK]
        if followed.frame in (0, LATE):
            place = found.objects.index(1 if followed.frame == 0 else 2)
            truth = list(followed.sample.each_mask())[place]
            assert (found.masks[place] != truth).float().mean() < 0.05
        assert followed.is_known == (followed.frame != 4)
        assert found.objects == ((1,) if followed.frame < LATE else (1, 2))


def test_a_film_has_a_picture_of_each_frame(model, tmp_path):
    pictures = film_frames({"untuned": model, "tuned": model}, CLIP)
    assert len(pictures) == 6
    assert len({picture.size for picture in pictures}) == 1
    assert strip_of(pictures).height == 6 * pictures[0].height
    path = save_film(pictures, tmp_path / "film")
    assert path.stat().st_size > 1000
    import av

    with av.open(str(path)) as film:
        assert len(list(film.decode(video=0))) == 6


def test_a_person_corrects_each_object_where_it_fits_worst(model, monkeypatch):
    said = []
    real = VideoSession.prompt

    def listen(session, frame, name, *arguments, **options):
        said.append((name, frame))
        return real(session, frame, name, *arguments, **options)

    monkeypatch.setattr(VideoSession, "prompt", listen)
    curves = correct_clip(model, CLIP, num_frames=3)
    assert {value: len(curve) for value, curve in curves.items()} == {1: 3, 2: 3}
    assert all(0 <= score <= 1 for curve in curves.values() for score in curve)
    assert said[:6] == [(1, 0)] * 3 + [(2, LATE)] * 3
    assert len(said) == 18
    assert {frame for _, frame in said} <= set(CLIP.annotated())
    session = VideoSession(model, lambda index: CLIP.read(index).image, 6)
    for name, frame in ((1, 0), (2, LATE)):
        prompt_object(session, frame, CLIP.read(frame), name, CLIP_PROTOCOLS["clicks"].simulator)
    found = {one.frame: one for one in session.propagate(0) if one.frame in CLIP.annotated()}
    regions = {
        frame: region_similarity(one.masks[0].numpy(), next(CLIP.read(frame).each_mask()).numpy())
        for frame, one in found.items()
    }
    assert said[6] == (1, min(regions, key=regions.get))


def test_the_first_rounds_are_the_same_however_many_follow(model):
    one, two = (correct_clip(model, CLIP, number) for number in (1, 2))
    assert {value: curve[:1] for value, curve in two.items()} == one


class Slices(Squares):
    """The same as a volume, on whose last slices the first square is not."""

    def __init__(self):
        ClipSet.__init__(self, [Clip("squares", tuple("012345"), tuple(range(6)), 0)])

    def read_frame(self, clip, frame, with_image=True):
        sample = super().read_frame(clip, frame, with_image)
        return sample.keep(torch.arange(0)) if frame > 2 else sample.keep(torch.tensor([0]))


def test_finding_nothing_in_a_volume_is_no_merit(monkeypatch, model):
    nothing = VideoSession._found

    def find_nothing(session, frame, rows, size):
        found = nothing(session, frame, rows, size)
        return found if frame == 0 else found._replace(masks=found.masks & False)

    monkeypatch.setattr(VideoSession, "_found", find_nothing)
    clip = HeldOutClips(Slices())[0]
    (row,) = score_clip({"": model}, clip, {MASK: CLIP_PROTOCOLS[MASK]}, VIDEO_METRICS).to_pylist()
    assert (row["j"], row["f"], row["frames"]) == (0, 0, 5)  # of five slices three hold no object, and none was found
    assert 0 < row["volume_dice"] < 1


class Lens(Squares):
    """The same squares as a volume in which the first is largest on slice 3 and the second on slice 2."""

    def __init__(self):
        ClipSet.__init__(self, [Clip("volume", tuple("012345"), range(6), 3)])

    def read_frame(self, clip, frame, with_image=True):
        sample = super().read_frame(clip, frame, with_image)
        masks = torch.stack([*sample.each_mask()])
        rows = torch.arange(SIZE[0])[:, None]
        masks[0] &= rows < 25 - abs(frame - 3)
        if len(masks) > 1:
            masks[1] &= rows < 55 - abs(frame - 2)
        packed = pack_masks(enumerate(masks, start=1), SIZE)
        return Sample(f"volume/{frame}", sample.image, *packed, group="volume")


def test_objects_of_a_volume_are_followed_both_ways_from_their_largest_slices(model):
    clip = HeldOutClips(Lens())[0]
    frames = [*follow_clip({"": model}, clip, {MASK: CLIP_PROTOCOLS[MASK]})]
    assert [one.frame for one in frames] == [*range(6)]
    assert [set(one.prompted) for one in frames] == [set(), set(), {2}, {1}, set(), set()]
    assert all(set(one.found["", MASK].objects) == {1, 2} for one in frames)
    for value, start in ((1, 3), (2, 2)):
        for course in (range(start, 6), range(start, -1, -1)):  # alone, in a session of its own
            session = VideoSession(model)
            for number, frame in enumerate(course):
                sample = clip.read(frame)
                masks = session.see(sample.image)
                if number == 0:
                    give_mask(session, 0, sample, value)
                    masks = session.masks(0)
                found = frames[frame].found["", MASK]
                assert torch.equal(found.masks[found.objects.index(value)], masks.masks[0])


class Empty(Lens):
    """A volume in which nothing is outlined."""

    def read_frame(self, clip, frame, with_image=True):
        return Sample(f"volume/{frame}", super().read_frame(clip, frame).image, *pack_masks([], SIZE), group="volume")


def test_a_volume_without_objects_is_gone_through_once(model):
    frames = [*follow_clip({"": model}, HeldOutClips(Empty())[0], {MASK: CLIP_PROTOCOLS[MASK]})]
    assert [one.frame for one in frames] == [*range(6)]
    assert not any(one.prompted for one in frames)
