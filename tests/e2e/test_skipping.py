"""Broken records from the command line: the default stops with their name, ``data.on_error=skip`` goes on."""

import json

import pyarrow.parquet as pq
import pytest

from tests.e2e.commands import SMALL, assert_report, run, write_squares

SETTINGS = [setting for setting in SMALL if not setting.startswith("data.")]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def break_image(path):
    path.write_bytes(path.read_bytes()[:80])


@pytest.fixture
def squares(tmp_path):
    """Images 0 to 9 in split folders, of which one of each kind cannot be read."""
    for split, numbers in {"train": range(6), "val": range(6, 8), "test": range(8, 11)}.items():
        write_squares(tmp_path / "squares" / split, len(numbers), first=numbers[0])
    for name in ("train/images/2", "val/masks/7", "test/images/9"):
        break_image(tmp_path / "squares" / f"{name}.png")
    return tmp_path / "squares"


def test_broken_records_are_left_out_counted_and_named(squares, tmp_path, monkeypatch):
    data = ["data=folder", f"data.root={squares}", "data.on_error=skip"]
    folder = tmp_path / "run"
    run("train", monkeypatch, *data, "data.check=false", *SETTINGS, f"output={folder}")
    report = assert_report(folder)
    assert report["skipped"] == {"train": 1, "val": 1, "test": 1}
    assert report["num_images"] == 2
    named = [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]
    assert [one["id"] for one in named] == ["test/9", "train/2", "val/7"]
    assert set(pq.read_table(folder / "rows.parquet").column("image").to_pylist()) == {"test/8", "test/10"}
    page = " ".join((folder / "report.html").read_text().split())
    assert "1 more of the images cannot be read and are in no score (skipped.jsonl)" in page
    assert "1 test, 1 train, 1 val that cannot be read, as skipped.jsonl says" in page
    evaluation = ["evaluation=short", f"output={tmp_path}/again"]
    run("evaluate", monkeypatch, f"checkpoint={folder}", *evaluation)
    assert assert_report(tmp_path / "again")["tuned"] == report["tuned"]
    assert len((tmp_path / "again" / "skipped.jsonl").read_text().splitlines()) == 1  # no other split is looked at


def test_the_default_stops_with_their_names(squares, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "data=folder", f"data.root={squares}", *SETTINGS, f"output={tmp_path}/run")
    error = capsys.readouterr().err
    assert "the data has 3 problem(s)" in error
    assert "2.png" in error
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "data=folder", f"data.root={squares}", "data.on_error=leave", *SETTINGS)
    assert "data.on_error=leave: expected one of stop, skip" in capsys.readouterr().err
