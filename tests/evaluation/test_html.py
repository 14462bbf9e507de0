"""The page that a person mails: it opens anywhere, and says what was gained and how surely."""

import base64
import io

import pytest
from PIL import Image

from sam_train.evaluation.html import Page, headline, learning_curves, write_html
from sam_train.evaluation.object_pictures import choose_objects
from sam_train.metrics import IOU
from tests.evaluation.browser import Browser, needs_chromium
from tests.evaluation.reports import make_report, make_rows


def picture():
    file = io.BytesIO()
    Image.new("RGB", (608, 200), (200, 60, 90)).save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rows = make_rows()
    report = make_report(rows)
    chosen = choose_objects(rows, IOU, "box", 4)
    content = Page(
        title="sam2_nano, fine-tuned on <b>polyps</b>",
        facts={"model": "sam2_nano", "trained on": "/a/very/long/path" * 12},
        settings="{}",
        curves={"train/loss": [(1, 0.5), (2, 0.4)], "val/iou_box": [(0, 0.5), (2, 0.6)]},
        chosen=chosen,
        pictures={(one.image, one.value): picture() for some in chosen.values() for one in some},
        pictured_by="box",
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(path, report, content)
    return path


@needs_chromium
def test_it_opens_without_an_error_and_fits_a_telephone_and_a_screen(page, tmp_path):
    browser = Browser(tmp_path)
    try:
        for width in (1280, 400):
            browser.open(page, width)
            images = browser.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
            assert len(images) == 5 + 12
            assert all(images)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            smallest = "Math.min(...[...document.querySelectorAll('p,td,figcaption,dd,span')]"
            assert browser.evaluate(f"{smallest}.map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 12
            assert browser.complaints() == []
    finally:
        browser.close()


def test_it_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "<script" not in text
    assert "&lt;b&gt;polyps" in text  # names are never markup


def test_it_begins_with_the_gain_and_its_interval():
    report = make_report(make_rows(num_groups=12))
    low, high = report.differences["box"]["iou"]["low"], report.differences["box"]["iou"]["high"]
    said = headline(report)
    assert f"(95% interval {low:+.3f} to {high:+.3f})" in said
    assert said.endswith("Surely better with every kind of prompt.")
    assert headline(make_report(make_rows(num_groups=6))).endswith("Likely better with every kind of prompt.")
    assert headline(make_report(make_rows(gain=0))).endswith("No sure change with any kind of prompt.")
    assert "Likely worse" in headline(make_report(make_rows(gain=-0.05)))


def test_one_group_has_no_interval_and_says_so(tmp_path):
    report = make_report(make_rows(num_groups=1))
    assert "All objects are of one group, so an interval cannot be had." in headline(report)
    write_html(tmp_path / "report.html", report, Page("title", {}))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "surely" not in text
    assert "likely" not in text


def test_objects_in_pictures_are_the_best_the_worst_and_the_most_changed():
    rows = make_rows()
    chosen = choose_objects(rows, IOU, "box", 3)
    of_boxes = [row for row in rows.to_pylist() if row["prompt"] == "box"]
    scores = sorted(row["tuned_iou"] for row in of_boxes)
    changes = sorted((abs(row["tuned_iou"] - row["untuned_iou"]) for row in of_boxes), reverse=True)
    assert [one.tuned for one in chosen["worst"]] == scores[:3]
    assert [one.tuned for one in chosen["best"]] == scores[::-1][:3]
    assert [abs(one.tuned - one.untuned) for one in chosen["most changed"]] == changes[:3]


def test_curves_of_a_resumed_run_are_one(tmp_path):
    header = "step,train/loss,val/iou,val/iou_box,val/dice_box\n"
    for version, lines in {0: "0,,0.4,0.5,0.6\n9,0.3,,,\n19,0.2,,,\n", 10: "19,0.1,,,\n20,,0.5,0.6,0.7\n"}.items():
        folder = tmp_path / "metrics" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(header + lines)
    curves = learning_curves(tmp_path, "iou")
    assert curves == {"val/iou_box": [(0, 0.5), (20, 0.6)], "train/loss": [(9, 0.3), (19, 0.1)]}
    assert learning_curves(tmp_path / "elsewhere", "iou") == {}
