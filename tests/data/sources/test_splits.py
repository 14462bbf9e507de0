"""Splits: who is held out follows from names and seed alone, and no patient is in two."""

import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sam_train.data.sources.splits import SPLITS, assign_splits
from sam_train.errors import InputError

USUAL = (0.7, 0.15, 0.15)
GROUPS = st.lists(st.integers(0, 12).map(str), min_size=3, max_size=60).filter(lambda groups: len(set(groups)) >= 3)
PARTS = st.lists(st.integers(1, 20), min_size=3, max_size=3)
FRACTIONS = PARTS.map(lambda parts: [part / sum(parts) for part in parts])
SEEDS = st.integers(0, 1000)


@given(GROUPS, FRACTIONS, SEEDS)
def test_no_group_is_in_two_splits_and_no_split_is_empty(groups, fractions, seed):
    assigned = assign_splits(groups, fractions, seed)
    assert len(set(zip(groups, assigned, strict=True))) == len(set(groups))
    assert set(assigned) == set(SPLITS)


@given(GROUPS, FRACTIONS, SEEDS, st.randoms())
def test_the_order_of_images_does_not_matter(groups, fractions, seed, chance: random.Random):
    split_of = dict(zip(groups, assign_splits(groups, fractions, seed), strict=True))
    shuffled = chance.sample(groups, len(groups))
    assert assign_splits(shuffled, fractions, seed) == [split_of[group] for group in shuffled]


@given(GROUPS, FRACTIONS, SEEDS)
def test_sizes_are_off_by_less_than_groups_are_large(groups, fractions, seed):
    largest = max(Counter(groups).values())
    found = Counter(assign_splits(groups, fractions, seed))
    for split, fraction in zip(SPLITS, fractions, strict=True):
        assert found[split] - fraction * len(groups) < largest
        assert fraction * len(groups) - found[split] < 2 * largest


@given(st.integers(3, 400), FRACTIONS, SEEDS)
def test_single_images_are_split_to_the_nearest(count, fractions, seed):
    assume(min(fractions) * count >= 1)
    found = Counter(assign_splits([str(number) for number in range(count)], fractions, seed))
    assert all(abs(found[split] - share * count) < 1 for split, share in zip(SPLITS, fractions, strict=True))


def test_a_huge_group_trains():
    for seed in range(20):
        assigned = assign_splits(["a"] * 100 + ["b", "c"], USUAL, seed)
        assert assigned[0] == "train"


def test_every_image_is_held_out_by_some_seed():
    groups = [str(number) for number in range(20)]
    tested = set()
    for seed in range(60):
        assigned = assign_splits(groups, USUAL, seed)
        tested |= {group for group, split in zip(groups, assigned, strict=True) if split == "test"}
    assert tested == set(groups)


def test_the_split_is_the_same_everywhere_and_for_ever():
    assert "".join(split[1] for split in assign_splits(list("abcdefghijklmnop"), USUAL, 0)) == "rerrrarrrrrearar"


def test_two_groups_train_and_validate():
    assert sorted(assign_splits(["a", "a", "b"], USUAL, 0)) == ["train", "train", "val"]


def test_a_split_without_share_gets_nothing():
    assert set(assign_splits(list("abcdef"), (0, 0, 1), 0)) == {"test"}
    assert set(assign_splits(list("abcdef"), (0.5, 0.5, 0), 0)) == {"train", "val"}
    assert assign_splits(["a"], (0, 0, 1), 0) == ["test"]


@pytest.mark.parametrize(("groups", "found"), [(["a"], "only 1 image"), (["a", "a"], "one group")])
def test_one_group_cannot_be_split(groups, found):
    with pytest.raises(InputError, match=f"{found} .*add images"):
        assign_splits(groups, USUAL, 0)


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.7, -0.4), (70, 15, 15), (0.7, 0.1, 0.1)])
def test_fractions_that_are_no_shares_are_refused(fractions):
    with pytest.raises(InputError, match="shares of train, val and test"):
        assign_splits(list("abc"), fractions, 0)
