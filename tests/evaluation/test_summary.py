"""What a report says of rows."""

from statistics import fmean

import pytest

from sam_train.evaluation.summary import summarize
from sam_train.metrics import METRICS
from sam_train.metrics.base import find_metrics
from tests.evaluation.reports import METRICS as MEASURED
from tests.evaluation.reports import TITLES, make_report, make_rows


@pytest.fixture(scope="module")
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def report(rows):
    return make_report(rows)


@pytest.mark.parametrize(
    ("part", "column"), [("by_group", "group"), ("by_image", "image"), ("by_category", "category")]
)
def test_scores_of_parts_are_means_over_their_objects(rows, report, part, column):
    found = getattr(report, part)
    for name, scores in found.items():
        of_part = [row for row in rows.to_pylist() if row[column] == name and row["prompt"] == "point"]
        assert scores["num_objects"] == len(of_part)
        assert scores["tuned"]["point"]["iou"] == pytest.approx(fmean(row["tuned_iou"] for row in of_part))
        assert scores["untuned"]["point"]["iou"] == pytest.approx(fmean(row["untuned_iou"] for row in of_part))
    assert found.keys() == set(rows.column(column).to_pylist())


def test_clicks_are_counted_to_twenty(rows, report):
    curves = [row["tuned_iou_by_click"] for row in rows.to_pylist() if row["prompt"] == "clicks"]
    first = [next((place for place, iou in enumerate(curve, 1) if iou >= 0.85), 20) for curve in curves]
    assert report.clicks["tuned"]["noc85"] == pytest.approx(fmean(first))
    assert report.clicks["tuned"]["failures90"] == sum(max(curve) < 0.9 for curve in curves)
    assert report.clicks["tuned"]["max_clicks"] == len(report.clicks["tuned"]["iou"]) == 20


def test_objects_that_were_not_found_are_counted(rows, report):
    bad = [row for row in rows.to_pylist() if row["prompt"] == "box" and row["untuned_iou"] < 0.5]
    assert report.poor["box"]["untuned"] == len(bad) > report.poor["box"]["tuned"]


def test_masks_that_are_the_truth_have_the_best_ap(report):
    assert report.coco["tuned"]["AP"] == pytest.approx(1)
    assert report.coco["tuned"]["AP_medium"] is None  # no object of these is so large


@pytest.mark.parametrize(
    ("chosen_by", "expected"), [("dice_box", "dice"), ("iou", "iou"), ("iou_mask", "iou"), ("loss", "iou")]
)
def test_the_main_metric_is_what_the_checkpoint_was_chosen_by(rows, chosen_by, expected):
    counts = {"num_images": 12, "num_too_small": 0}
    assert summarize(rows, MEASURED, TITLES, counts, "test", chosen_by).chosen_by == expected


def test_a_metric_whose_name_begins_like_anothers_is_not_taken_for_it(rows):
    metrics = find_metrics(["nsd", "nsd_3px", "iou"], METRICS)
    with_both = rows
    for name in ("nsd", "nsd_3px"):
        for model in ("untuned", "tuned"):
            with_both = with_both.append_column(f"{model}_{name}", rows.column(f"{model}_iou"))
    counts = {"num_images": 12, "num_too_small": 0}
    assert summarize(with_both, metrics, TITLES, counts, "test", "nsd_3px_box").chosen_by == "nsd_3px"
    assert summarize(with_both, metrics, TITLES, counts, "test", "nsd_box").chosen_by == "nsd"
