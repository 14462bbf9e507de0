"""Parts of clips that train."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.clip_batch import collate_clips
from sam_train.data.loading.clip_data import ClipData
from sam_train.data.loading.clip_dataset import ClipChoice, HeldOutClips, TrainClips
from sam_train.data.loading.clip_sampling import choose_frames
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.video.clips import Clip, ClipSet
from sam_train.data.world import ToySource
from sam_train.data.world.film import ToyVideoSource
from sam_train.errors import InputError
from sam_train.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(64, "square")
TOY = ToyVideoSource(4, 2, 2, num_frames=10, image_size=64)


class FewAnnotated(ClipSet):
    """Toy clips of which one frame in ten, or so, is annotated."""

    def __init__(self, annotated=(1, 9)):
        self.whole = TOY.splits()["train"]
        super().__init__([Clip(clip.name, clip.frames, annotated) for clip in self.whole.clips])

    def read_frame(self, clip, frame, with_image=True):
        sample = self.whole.read_frame(clip, frame, with_image)
        known = frame in self.clips[clip].annotated
        return sample if known else sample.keep(torch.zeros(0, dtype=torch.long))


@given(
    st.integers(1, 60), st.data(), st.integers(1, 10), st.integers(1, 5), st.booleans(), st.integers(0, 10)
)  # fmt: skip
def test_frames_begin_with_the_first_and_meet_another_annotated_one(num, data, length, stride, is_reversed, seed):
    annotated = sorted(data.draw(st.sets(st.integers(0, num - 1), min_size=1, max_size=5)))
    start = data.draw(st.sampled_from(annotated))
    generator = torch.Generator().manual_seed(seed)
    frames = choose_frames(num, annotated, start, length, stride, is_reversed, generator)
    assert len(frames) == length
    assert frames[0] == start
    assert all(0 <= frame < num for frame in frames)
    if len(annotated) > 1 and length > 1:
        assert set(frames) & (set(annotated) - {start})


def test_frames_follow_each_other_at_one_stride_in_either_direction():
    seen = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        frames = choose_frames(100, range(100), 50, 5, 3, seed % 2 == 1, generator)
        (step,) = {after - before for before, after in pairwise(frames)}
        seen.add(step)
    assert seen == {1, 2, 3, -1, -2, -3}


def test_time_turns_round_at_the_end_of_a_short_clip():
    assert choose_frames(3, range(3), 0, 6, 1, False, torch.Generator()) == [0, 1, 2, 1, 0, 1]


def dataset(clips=None, augmentation=None, **choice) -> TrainClips:
    clips = TOY.splits()["train"] if clips is None else clips
    return TrainClips(clips, PREPROCESSING, ClipChoice(num_frames=4, **choice), augmentation, 4, 0)


def test_the_same_objects_are_on_all_frames_and_empty_where_they_are_absent():
    for index in range(4):
        batch = dataset()[0, index]
        assert len(batch.frames) == 4
        assert 1 <= batch.num_objects <= 3
        assert batch.frames[0].masks.flatten(1).any(dim=1).all()
        assert all(frame.masks.shape == batch.frames[0].masks.shape for frame in batch.frames)
        assert batch.known.all()
        assert batch.frames[1].images.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_a_part_of_a_clip_is_a_function_of_seed_epoch_and_clip(augmentation):
    one, other = (dataset(augmentation=augmentation)[1, 2] for _ in range(2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(one.frames, other.frames, strict=True))
    assert all(torch.equal(a.masks, b.masks) for a, b in zip(one.frames, other.frames, strict=True))
    assert one.seed == other.seed
    later = dataset(augmentation=augmentation)[2, 2]
    assert not all(torch.equal(a.images, b.images) for a, b in zip(one.frames, later.frames, strict=True))


def test_clips_with_few_annotated_frames_train_on_these():
    for index in range(4):
        batch = dataset(FewAnnotated(), max_stride=1)[0, index]
        known = batch.known.all(dim=1).tolist()
        assert known[0]
        assert 1 <= sum(known[1:]) < 3  # the other one, and what lies between is not known
        for is_known, frame in zip(known, batch.frames, strict=True):
            assert is_known or not frame.masks.any()


def test_clips_are_batched_with_their_objects_packed():
    clips = [dataset()[0, index] for index in range(3)]
    batch = collate_clips(clips)
    assert batch.num_objects == sum(clip.num_objects for clip in clips)
    assert batch.known.shape == (4, batch.num_objects)
    start = clips[0].num_objects
    assert (batch.object_image[:start] == 0).all()
    for frame in range(4):
        assert torch.equal(
            batch.frames[frame].masks[start : start + clips[1].num_objects], clips[1].frames[frame].masks
        )


def test_the_loaders_have_clips_and_refuse_images():
    loading = Loading(batch_size=2, num_workers=0, min_area=4)
    data = ClipData(TOY.splits(), PREPROCESSING, loading, 0, ClipChoice(3), max_val_clips=1, max_val_frames=4)
    (first, *_) = data.train_dataloader()
    assert len(first.ids) == 2
    (clip,) = data.val_dataloader()
    assert list(clip.frames) == [0, 1, 2, 3]
    assert [len(clip.frames) for clip in data.eval_dataloader("test")] == [10, 10]
    with pytest.raises(InputError, match="task=video: data are images"):
        ClipData(ToySource("shapes", 1, 1, 1).splits(), PREPROCESSING, loading, 0, ClipChoice(3))


def test_a_held_out_clip_begins_with_its_first_annotated_frame():
    clip = HeldOutClips(FewAnnotated((2, 6)), max_frames=6)[0]
    assert list(clip.frames) == [2, 3, 4, 5, 6, 7]
    assert clip.annotated() == {2, 6}
    assert clip.to("cpu").name == clip.ids[0]
