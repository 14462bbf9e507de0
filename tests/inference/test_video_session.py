"""Objects are followed through a video, whatever the weights."""

from dataclasses import replace

import pytest
import torch

from sam_train.errors import InputError
from sam_train.inference.video_session import VideoSession
from sam_train.models.sam2.memory_bank import Course, MemoryBank
from sam_train.models.sam2.tracking import empty_where_absent
from tests.models.clips import square_masks, tracking_model
from tests.models.zoo import IMAGE_SIZE

NUM_FRAMES, SIZE = 8, (48, 80)


@pytest.fixture(scope="module")
def model():
    model = tracking_model().float()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 3  # or random weights see no object
    return model


@pytest.fixture(scope="module")
def video():
    generator = torch.Generator().manual_seed(0)
    return list(torch.randint(0, 256, (NUM_FRAMES, 3, *SIZE), generator=generator, dtype=torch.uint8))


def begin(model, video, **options) -> VideoSession:
    session = VideoSession(model, video, **options)
    session.prompt(0, "a", points=[[20, 20]], labels=[1])
    session.prompt(0, "b", box=[30, 10, 60, 40])
    return session


def test_objects_are_followed_as_the_model_follows_them(model, video):
    """By ``track``, frame by frame, from the mask that is given."""
    mask = square_masks(1)[0]
    square = [torch.nn.functional.interpolate(frame[None], (IMAGE_SIZE, IMAGE_SIZE))[0] for frame in video]
    session = VideoSession(model, square)
    session.prompt(0, 7, mask=mask)
    found = list(session.propagate())
    images = model.preprocessing.normalize(torch.stack(square), torch.full((NUM_FRAMES, 2), IMAGE_SIZE))
    bank, course = MemoryBank.empty(1), Course(num_frames=NUM_FRAMES)
    with torch.no_grad():
        for frame, features in enumerate(model.encode_image(images).chunk(NUM_FRAMES)):
            masks = mask[None] if frame == 0 else None
            prediction, bank = model.track(features, None, torch.tensor([0]), bank, frame, masks=masks, course=course)
            shown = empty_where_absent(prediction.best()).logits
            expected = model.preprocessing.restore_logits(shown, (IMAGE_SIZE, IMAGE_SIZE))[:, 0] > 0
            assert (found[frame].masks != expected).float().mean() < 1e-3
            assert found[frame].frame == frame


def test_frames_that_come_one_by_one_give_the_same(model, video):
    expected = list(begin(model, video).propagate())
    session = VideoSession(model)
    assert session.see(video[0]).objects == ()
    session.prompt(0, "a", points=[[20, 20]], labels=[1])
    session.prompt(0, "b", box=[30, 10, 60, 40])
    for frame in range(1, NUM_FRAMES):
        found = session.see(video[frame])
        assert found.objects == ("a", "b")
        assert (found.masks != expected[frame].masks).float().mean() < 0.02  # pointers of short clips: another scale
    with pytest.raises(InputError, match="frame 0 is gone"):
        session.prompt(0, "a", points=[[1, 1]], labels=[0])


def test_an_object_that_is_added_later_does_not_change_the_others(model, video):
    expected = list(begin(model, video).propagate())
    session = begin(model, video)
    first = [next_ for next_, _ in zip(session.propagate(), range(4), strict=False)]
    session.prompt(4, "c", points=[[60, 30]], labels=[1])
    rest = list(session.propagate(4))
    assert rest[0].objects == ("a", "b", "c")
    for found, alone in zip([*first, *rest], expected, strict=True):
        assert torch.equal(found.masks[:2], alone.masks)


def test_a_correction_survives_following_through_its_frame_again(model, video):
    session = begin(model, video)
    before = list(session.propagate())
    list(session.propagate(0))  # up to the last frame: what was found there may be corrected
    corrected = session.prompt(NUM_FRAMES - 1, "a", points=[[70, 40]], labels=[1])
    assert not torch.equal(corrected, before[-1].masks[0])
    again = list(session.propagate())
    assert torch.equal(again[-1].masks[0], corrected)
    assert torch.equal(again[-1].masks[1], before[-1].masks[1])
    assert not torch.equal(again[4].masks[0], before[4].masks[0])  # it is looked at from everywhere


def test_what_is_remembered_does_not_grow(model):
    session = VideoSession(model)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for frame in range(40):
        session.see(torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8))
        if frame == 0:
            session.prompt(0, 1, points=[[20, 20]], labels=[1])
        sizes.append(sum(bank.num_bytes() for bank in session._banks))
    assert sizes[39] == sizes[20] > sizes[3]


def test_going_back_is_going_forward_in_the_mirrored_video(model, video):
    session = VideoSession(model, video[::-1])
    session.prompt(NUM_FRAMES - 1, "a", points=[[20, 20]], labels=[1])
    forward = VideoSession(model, video)
    forward.prompt(0, "a", points=[[20, 20]], labels=[1])
    for one, other in zip(session.propagate(reverse=True), forward.propagate(), strict=True):
        assert one.frame == NUM_FRAMES - 1 - other.frame
        assert torch.equal(one.masks, other.masks)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "give points or a box, or a mask"),
        ({"points": [[1, 1]], "labels": [1], "mask": torch.ones(SIZE, dtype=torch.bool)}, "and not both"),
        ({"points": [[1, 1]]}, "1 points and 0 labels"),
    ],
)
def test_prompts_that_say_nothing_or_too_much_are_refused(model, video, said, message):
    with pytest.raises(InputError, match=message):
        VideoSession(model, video).prompt(0, "a", **said)


def test_a_frame_beyond_the_video_is_refused(model, video):
    with pytest.raises(InputError, match="frame 99: the video has the frames 0 to 7"):
        VideoSession(model, video).prompt(99, "a", points=[[1, 1]], labels=[1])


def test_a_model_without_memory_is_refused(video):
    model = replace(tracking_model().config, version=None).build()
    with pytest.raises(InputError, match="has no memory"):
        VideoSession(model, video)


def test_frames_may_be_a_tensor(model, video):
    frames = [*begin(model, torch.stack(video)).propagate()]
    for expected, found in zip(begin(model, video).propagate(), frames, strict=True):
        assert torch.equal(expected.masks, found.masks)


def test_labels_are_0_or_1_and_without_objects_nothing_is_found(model, video):
    session = VideoSession(model, video)
    assert session.masks(0).masks.shape == (0, *SIZE)
    with pytest.raises(InputError, match="label 7: expected 1"):
        session.prompt(0, "a", points=[[20, 20]], labels=[7])
    assert not session.objects


def test_a_mask_takes_the_place_of_earlier_points_on_its_frame(model, video):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[10:30, 20:50] = True
    session, fresh = VideoSession(model, video), VideoSession(model, video)
    session.prompt(0, "a", points=[[70, 40]], labels=[1])
    for one in (session, fresh):
        one.prompt(0, "a", mask=mask)
    assert torch.equal(session.masks(0).masks, fresh.masks(0).masks)
    assert session._said == fresh._said == {}
