"""Each kind of data trains from the command line on a real set, as it lies there."""

import pytest

from tests.e2e.commands import SMALL, assert_report, run
from tests.parity.reference import SHARED

DATA = SHARED / "data"
SETTINGS = [setting for setting in SMALL if not setting.startswith(("data.", "trainer.max_steps"))]
SETTINGS += ["trainer.max_steps=2", "loader.max_val_images=2"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*those of val serve"),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}"),
]


def train(monkeypatch, output, *arguments):
    run("train", monkeypatch, *arguments, *SETTINGS, f"output={output}")
    return assert_report(output)


def test_coco(tmp_path, monkeypatch):
    assert train(monkeypatch, tmp_path / "run", "data=coco", f"data.root={DATA}/fruits_nuts")["num_images"] == 2
