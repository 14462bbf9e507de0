"""``sam-data`` as a person types it."""

import pytest

from tests.e2e.commands import run, write_squares
from tests.parity.reference import SHARED

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")


@needs_data
def test_a_sound_set_is_found_sound(tmp_path, monkeypatch, capsys):
    page = tmp_path / "balloon.html"
    for _ in range(2):  # the second replaces the first's page
        run("data", monkeypatch, "check", "data=coco", f"data.root={DATA}/balloon", f"output={page}")
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "24", "0", "123", "0", "1"] in [line[:6] for line in words]
    text = page.read_text(encoding="utf-8")
    assert "Sound: nothing would stop training." in text
    assert "34 images of" in text


def test_broken_files_are_all_named_with_exit_code_1(tmp_path, monkeypatch, capsys):
    write_squares(tmp_path / "data", 12)
    for name in ("3.png", "5.png", "8.png"):
        (tmp_path / "data" / "images" / name).write_bytes(b"\x89PNG")
    with pytest.raises(SystemExit) as end:
        run("data", monkeypatch, "check", f"data.root={tmp_path}/data", f"output={tmp_path}/page.html")
    assert end.value.code == 1
    told, page = capsys.readouterr().out, (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "found images/ and masks/, 12 images: data=folder" in told
    assert "the data has 3 problem(s)" in told
    for name in ("3.png", "5.png", "8.png"):
        assert f"images/{name}: " in told
        assert f"images/{name}: " in page


def test_somebody_elses_page_is_left_alone(tmp_path, monkeypatch, capsys):
    page = tmp_path / "thesis.html"
    page.write_text("<html>my thesis</html>")
    with pytest.raises(SystemExit) as end:
        run("data", monkeypatch, "check", "data=toy", f"output={page}")
    assert end.value.code == 2
    assert "is there already, and sam-data check did not make it" in capsys.readouterr().err
    assert page.read_text() == "<html>my thesis</html>"
