"""Rows of scores and their means; metrics by name."""

import math

import pyarrow as pa
import pytest

from sam_train.errors import InputError
from sam_train.metrics import DICE, IOU, METRICS
from sam_train.metrics.base import find_metrics
from sam_train.metrics.table import gather_rows, mean_scores
from tests.metrics.own import AREA_ERROR


def rows(*scores: tuple[str, int, str, float]) -> pa.Table:
    image, number, prompt, dice = zip(*scores, strict=True)
    return pa.table({"image": image, "object": number, "prompt": prompt, "dice": dice})


def test_rows_come_in_one_order_and_those_scored_twice_count_once():
    first = rows(("b", 1, "box", 0.5), ("a", 2, "box", 0.25))
    second = rows(("a", 2, "box", 0.25), ("a", 10, "box", 1.0))
    table = gather_rows([first, second])
    assert table.column("image").to_pylist() == ["a", "a", "b"]
    assert table.column("object").to_pylist() == [2, 10, 1]
    assert table.equals(gather_rows([second, first]))
    assert mean_scores(table, [DICE], ["point", "box"]) == {"box": {"dice": 1.75 / 3}}


def test_means_have_the_same_digits_in_whatever_order_rows_come():
    values = [0.1 * index for index in range(101)]
    table = gather_rows([rows(*((f"{index:03}", 1, "box", value) for index, value in enumerate(values)))])
    assert mean_scores(table, [DICE], ["box"])["box"]["dice"] == math.fsum(values) / 101


def test_without_an_object_there_is_no_mean():
    table = gather_rows([rows(("a", 1, "box", 0.5)).slice(0, 0)])
    assert mean_scores(table, [DICE], ["box"]) == {}


def test_metrics_are_found_by_name_or_dotted_path():
    assert find_metrics(["iou", "tests.metrics.own.AREA_ERROR"], METRICS) == (IOU, AREA_ERROR)
    assert AREA_ERROR.gain(0.5, 0.25) == 0.25 == IOU.gain(0.25, 0.5)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dise"], "nearest: dice"),
        ([], "give at least one metric"),
        (["dice", "dice"], "each once"),
        (["tests.metrics.own.NOT_A_METRIC"], "is a int, not a"),
        (["tests.metrics.own.nothing"], "cannot be imported"),
        (["no.such.module"], "cannot be imported"),
    ],
)
def test_other_names_are_refused_in_words(names, expected):
    with pytest.raises(InputError, match=expected):
        find_metrics(names, METRICS)
