"""Which frames are looked back on, and what may be forgotten."""

import json

import pytest
import torch

from sam_train.models.sam2.memory_bank import (
    FORWARD,
    INFERENCE,
    TRAINING,
    Course,
    Memory,
    MemoryBank,
    ObjectMemory,
    TrackingRules,
    select_conditioning,
)
from tests.parity.reference import ROOT, needs_reference

BACKWARD = Course(reverse=True)
LAST = 6  # the age of conditioning frames


def memory(frame: int) -> Memory:
    return Memory(frame, torch.full((2,), float(frame)), torch.full((1, 1), float(frame)))


def memories(*frames: int) -> tuple[Memory, ...]:
    return tuple(memory(frame) for frame in frames)


def looked_at(one: ObjectMemory, frame: int, course: Course = FORWARD, rules: TrackingRules = INFERENCE):
    look = one.look_back(frame, course, rules)
    cells = {memory.frame: age for age, memory in zip(look.ages, look.memories, strict=True)}
    pointers = {memory.frame: distance for distance, memory in zip(look.distances, look.pointers, strict=True)}
    return cells, pointers


@needs_reference
def test_conditioning_frames_are_chosen_as_officially():
    golden = json.loads((ROOT / "prompt_sampling" / "golden.json").read_text())
    for case in golden["schedules"]["select_closest_cond_frames"]:
        chosen, others = select_conditioning(memories(*case["conditioning_frames"]), case["frame"], case["max"])
        assert [memory.frame for memory in chosen] == case["selected_in_order"]
        assert sorted(memory.frame for memory in others) == sorted(case["unselected_in_order"])


def test_six_frames_and_fifteen_pointers_are_looked_at():
    one = ObjectMemory(memories(0), memories(*range(1, 40)))
    cells, pointers = looked_at(one, 40)
    assert cells == {0: LAST, 39: 0, 38: 1, 37: 2, 36: 3, 35: 4, 34: 5}
    assert pointers == {0: 40, **{40 - ago: ago for ago in range(1, 16)}}


def test_backward_the_frames_that_follow_are_looked_at():
    one = ObjectMemory(memories(39), memories(*range(39)))
    cells, pointers = looked_at(one, 10, BACKWARD)
    assert cells == {39: LAST, **{11 + age: age for age in range(6)}}
    assert pointers == {39: 29, **{10 + ago: ago for ago in range(1, 16)}}


def test_clips_shorter_than_sixteen_frames_have_fewer_pointers():
    one = ObjectMemory(memories(0), memories(*range(1, 8)))
    assert looked_at(one, 7, Course(num_frames=8))[1] == {0: 7, **{7 - ago: ago for ago in range(1, 7)}}
    assert set(looked_at(one, 7, Course(num_frames=4))[1]) == {0, 6, 5, 4}


def test_pointers_of_conditioning_frames_ahead_are_for_training():
    one = ObjectMemory(memories(0, 9), memories(1, 2))
    assert looked_at(one, 3)[1] == {0: 3, 2: 1, 1: 2}
    assert looked_at(one, 3, rules=TRAINING)[1] == {0: 3, 9: -6, 2: 1, 1: 2}
    assert looked_at(one, 3)[0] == {0: LAST, 9: LAST, 2: 0, 1: 1}


def test_conditioning_frames_that_are_not_chosen_are_as_if_they_were_tracked():
    one = ObjectMemory(memories(0, 3, 5, 8), memories(6, 7))
    cells, pointers = looked_at(one, 8, rules=TrackingRules(max_conditioning=2))
    assert cells == {5: LAST, 8: LAST, 7: 0, 6: 1, 3: 4}
    assert pointers == {5: 3, 8: 0, 7: 1, 6: 2, 3: 5, 0: 8}


@pytest.mark.parametrize("course", [FORWARD, BACKWARD])
def test_with_a_stride_the_last_frame_and_multiples_are_looked_at(course):
    one = ObjectMemory(memories(-100 * course.step), memories(*(frame * course.step for frame in range(-20, 20))))
    cells, _ = looked_at(one, 20 * course.step, course, TrackingRules(stride=3))
    assert [frame * course.step for frame in cells] == [-100, 19, 18, 15, 12, 9, 6]
    assert [*cells.values()] == [LAST, 0, 1, 2, 3, 4, 5]


def test_a_frame_is_remembered_once():
    one = ObjectMemory().add(memory(0), True).add(memory(1), False).add(memory(1), True)
    assert [old.frame for old in one.conditioning] == [0, 1]
    assert one.tracked == ()
    assert [old.frame for old in one.add(memory(1), False).tracked] == [1]


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_forgotten_is_not_looked_at_any_more(stride, reverse):
    course, rules = Course(reverse), TrackingRules(stride=stride)
    one = ObjectMemory(memories(0, 50), memories(*range(1, 50)))
    short = one.forget(25, course, rules)
    assert len(short.tracked) < len(one.tracked)
    for frame in range(25, 25 + 60 * course.step, course.step):
        all_, left = (some.look_back(frame, course, rules) for some in (one, short))
        assert (left.ages, left.distances) == (all_.ages, all_.distances)
        assert all(memory.values is not None for memory in left.memories)


def test_objects_of_a_bank_are_split_and_put_together():
    bank = MemoryBank.empty(3).add(memories(0, 0, 0), conditioning=True)
    second = bank.of([1]).add(memories(4), conditioning=False)
    changed = bank.put([1], second)
    assert len(changed) == 3
    assert changed.of([0, 2]) == bank.of([0, 2])
    assert [old.frame for old in changed.objects[1].tracked] == [4]
    assert MemoryBank.cat([changed.of([0]), changed.of([1, 2])]).objects == changed.objects
    assert bank.objects[1].tracked == ()  # a bank never changes


def test_going_back_to_frames_that_were_forgotten_finds_what_is_left():
    one = ObjectMemory(memories(0), memories(*range(1, 30))).forget(30, FORWARD, INFERENCE)
    cells, pointers = looked_at(one, 26)
    assert cells == {0: LAST, 25: 0, 24: 1}
    assert set(pointers) == {0, *range(15, 26)}
