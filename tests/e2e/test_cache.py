"""The embedding cache from the command line."""

import json

import pytest

from tests.e2e.commands import SMALL, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def test_a_second_run_finds_the_first_ones_cache_and_reports_the_same(tmp_path, monkeypatch, capsys):
    arguments = [*SMALL, "tuning=frozen", "cache=on", "cache.views=2", f"cache.folder={tmp_path}/cache"]
    for name in ("first", "second"):
        run("train", monkeypatch, *arguments, f"hydra.run.dir={tmp_path / name}")
        announced = "embedding cache: 18 embeddings to compute" in capsys.readouterr().err
        assert announced == (name == "first")
    first, second = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("first", "second"))
    assert first == second
    assert first["tuned"] != first["untuned"]


def test_an_encoder_that_trains_cannot_be_cached(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run("train", monkeypatch, *SMALL, "cache=on", f"cache.folder={tmp_path}/cache", f"hydra.run.dir={tmp_path}")
    assert "from its first block on; add tuning=frozen or tuning.last_blocks=4, or leave out cache=on" in " ".join(
        capsys.readouterr().err.split()
    )
