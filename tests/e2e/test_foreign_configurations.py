"""Configurations of a person's own, and those that a checkpoint brings."""

import pytest
import torch

from tests.e2e.commands import SMALL, assert_report, run, write_squares

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def test_configurations_of_ones_own_are_choices_like_any_other(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leaves.yaml").write_text("defaults: [folder]\nroot: nowhere/leaves\n")
    with pytest.raises(SystemExit):
        run("train", monkeypatch, "--config-dir", str(tmp_path), "data=leaves", f"hydra.run.dir={tmp_path}")
    assert "data.root=nowhere/leaves: no such file or folder" in capsys.readouterr().err


def test_data_of_ones_own_configuration_are_what_is_evaluated(tmp_path, monkeypatch):
    write_squares(tmp_path / "ours", 6)
    write_squares(tmp_path / "theirs", 9, first=6)
    for part in ("images", "masks"):
        for path in (tmp_path / "theirs" / part).iterdir():
            path.rename(path.with_name(f"other_{path.name}"))
    short = [argument for argument in SMALL if not argument.startswith("data.")]
    run("train", monkeypatch, *short, "data=folder", f"data.root={tmp_path}/ours", f"hydra.run.dir={tmp_path}/run")
    (tmp_path / "data").mkdir()
    own = f"defaults: [folder]\nroot: {tmp_path}/theirs\nsplit: [0, 0, 1]\n"
    (tmp_path / "data" / "theirs.yaml").write_text(own)
    arguments = [f"checkpoint={tmp_path}/run/best.ckpt", "data=theirs", f"hydra.run.dir={tmp_path}/again"]
    run("evaluate", monkeypatch, "--config-dir", str(tmp_path), "evaluation=short", *arguments)
    assert assert_report(tmp_path / "again")["num_images"] == 9


@pytest.mark.parametrize(
    ("command", "part", "value", "expected"),
    [
        ("export", "tuning", {"_target_": "os.getcwd"}, "it asks for os.getcwd where sam_train.tuning.surgery.Tuning"),
        ("export", "tuning", {"targets": [{"_target_": "os.getcwd"}]}, "expected numbers and texts only"),
        ("evaluate", "loader", {"min_area": {"_target_": "os.getcwd"}}, "expected numbers and texts only"),
        ("evaluate", "data", {"_target_": "os.getcwd"}, "not of this package and might do anything"),
        ("evaluate", "data", {"_target_": "sam_train.runs.run.Run"}, "not of this package and might do anything"),
        ("evaluate", "data", {"_target_": "sam_train.gone.Data"}, "this version has no sam_train.gone.Data"),
        ("evaluate", "data", {"domain": {"_target_": "os.getcwd"}}, "not of this package and might do anything"),
        ("evaluate", "data", {"domain": "${model.preset}"}, "no toy domain '${model.preset}'"),
        ("evaluate", "data", {"shell": "rm"}, "has no setting 'shell'"),
    ],
)
def test_a_checkpoint_cannot_name_code_of_its_own(
    command, part, value, expected, trained, tmp_path, monkeypatch, capsys
):
    content = torch.load(trained / "best.ckpt", weights_only=True)
    content["sam_train"]["config"][part].update(value)
    torch.save(content, tmp_path / "foreign.ckpt")
    place = f"path={tmp_path}/out" if command == "export" else f"hydra.run.dir={tmp_path}/out"
    with pytest.raises(SystemExit):
        run(command, monkeypatch, f"checkpoint={tmp_path}/foreign.ckpt", place)
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
