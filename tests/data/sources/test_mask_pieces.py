"""Connected pieces, which never join two numbers."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_train.data.sources.mask_pieces import count_numbers, count_scattered, number_pieces

NUMBERS = hnp.arrays(np.int32, (7, 8), elements=st.sampled_from([0, 1, 2, 300, 2**31 - 1]))


def pieces(mask: np.ndarray) -> set[frozenset]:
    """Sets of pixels connected over sides and corners."""
    left, found = {tuple(at) for at in np.argwhere(mask).tolist()}, set()
    while left:
        queue = deque([left.pop()])
        piece = set(queue)
        while queue:
            y, x = queue.popleft()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            piece |= near
            queue += near
        found.add(frozenset(piece))
    return found


@given(NUMBERS)
def test_pieces_are_those_of_each_number_alone(pixels):
    numbered = number_pieces(pixels)
    found = {frozenset(map(tuple, np.argwhere(numbered == n).tolist())) for n in range(1, numbered.max() + 1)}
    expected = [piece for number in set(pixels.ravel().tolist()) - {0} for piece in pieces(pixels == number)]
    assert found == set(expected)
    assert numbered.max() == len(expected)
    assert ((numbered == 0) == (pixels == 0)).all()


@given(NUMBERS, st.integers(2, 5))
def test_scattered_numbers_have_many_pieces_and_none_that_is_the_main_one(pixels, least):
    sizes = {
        number: [len(piece) for piece in pieces(pixels == number)] for number in set(pixels.ravel().tolist()) - {0}
    }
    scattered = {n: len(some) for n, some in sizes.items() if len(some) >= least and 2 * max(some) < sum(some)}
    count, number, most = count_scattered(count_numbers(pixels), least)
    assert count == len(scattered)
    assert most == max(scattered.values(), default=0)
    assert scattered.get(number, 0) == most


@given(hnp.arrays(st.sampled_from([np.uint8, bool, np.int32, np.uint16]), (5, 6)))
def test_numbers_are_counted(pixels):
    pixels = np.abs(pixels) if pixels.dtype == np.int32 else pixels
    numbers, areas = np.unique(pixels, return_counts=True)
    counted = count_numbers(pixels)
    assert (counted.numbers.tolist(), counted.areas.tolist()) == (numbers.astype(np.int64).tolist(), areas.tolist())
