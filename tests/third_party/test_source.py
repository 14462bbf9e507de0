"""A data source of thirty lines that the package knows nothing of: trained, resumed, evaluated, exported."""

import ast
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.e2e.commands import SMALL, assert_report, run

HERE = Path(__file__).parent
OWN = ["--config-dir", str(HERE / "conf")]
SETTINGS = [setting for setting in SMALL if not setting.startswith("data.")]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("discs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run("train", monkeypatch, *OWN, "data=discs", *SETTINGS, f"output={folder}")
    return folder


def test_the_source_has_thirty_lines():
    tree = ast.parse((HERE / "discs.py").read_text())
    assert sum(node.end_lineno - node.lineno + 1 for node in tree.body if isinstance(node, ast.ClassDef)) <= 30


def test_it_is_trained_and_reported_on_by_group(trained):
    assert assert_report(trained)["num_images"] == 3
    rows = pq.read_table(trained / "rows.parquet").to_pylist()
    (group,) = {row["group"] for row in rows}
    assert {row["image"] for row in rows} == {f"disc {3 * int(group.split()[1]) + offset}" for offset in range(3)}


def test_its_run_is_resumed(trained, monkeypatch):
    run("train", monkeypatch, *OWN, "data=discs", *SETTINGS, "trainer.max_steps=5", f"resume={trained}")
    assert torch.load(trained / "last.ckpt", weights_only=True)["global_step"] == 5


def test_its_checkpoint_is_evaluated_without_naming_the_data_again(trained, tmp_path, monkeypatch):
    run("evaluate", monkeypatch, *OWN, f"checkpoint={trained}", f"output={tmp_path}")
    assert assert_report(tmp_path) == assert_report(trained)
    run("evaluate", monkeypatch, *OWN, f"checkpoint={trained}/best.ckpt", "data=discs", f"output={tmp_path}")
    assert assert_report(tmp_path) == assert_report(trained)


def test_its_checkpoint_is_exported(trained, tmp_path, monkeypatch):
    run("export", monkeypatch, f"checkpoint={trained}/best.ckpt", "format=huggingface", f"path={tmp_path}/sam")
    assert (tmp_path / "sam" / "model.safetensors").is_file()
