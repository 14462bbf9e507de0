"""The first mistake a person makes is told at once: before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WATCH = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "lightning", "numpy", "monai"):
            sys.stderr.write(f"{name} is imported\\n")
sys.meta_path.insert(0, Watch())
from sam_train.cli import %s
sys.argv[0] = "sam-%s"
%s.main()
"""
PREDICT = ("images=docs", "output=M")


def told(command, *arguments, cwd=ROOT, **environment):
    """What a command says on stderr of arguments that it refuses."""
    code = WATCH % (command, command, command)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={"PATH": "", "HOME": "/nowhere", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("train", ["data=folder", "data.root=sam_trian"], "data.root=sam_trian: no such file or folder; did you mean"),
        ("train", ["data=folder"], "data.root: not given; add data.root=..."),
        ("train", ["trainer.max_steps=-5"], "trainer.max_steps=-5: expected a whole number"),
        ("train", ["optim.lr=abc"], "optim.lr=abc: expected a number above 0"),
        ("train", ["optim.layer_decay=2"], "optim.layer_decay=2: expected a number above 0 and at most 1"),
        ("train", ["loader.augmentation.flip=1.5"], "loader.augmentation.flip=1.5: expected a number from 0 to 1"),
        ("train", ["optim.rl=1"], "nearest: optim.lr"),
        ("train", ["model.weights=sam_vit_b.pth"], "model.weights=sam_vit_b.pth: no such file or folder"),
        ("train", ["output=README.md/run"], "output=README.md/run: cannot be written (Not a directory)"),
        ("train", ["logger=wandb"], "there is no key for wandb; run `wandb login` once, or give logger.offline=true"),
        ("evaluate", [], "checkpoint: not given; add checkpoint=..."),
        ("evaluate", ["checkpoint=best.ckpt"], "checkpoint=best.ckpt: no such file or folder"),
        ("predict", ["checkpoint=sam2_nan", *PREDICT], "checkpoint=sam2_nan: no such file, folder or preset; did you"),
        ("predict", ["checkpoint=docs/runs", *PREDICT], "checkpoint=docs/runs: no such file or folder; "),
        ("predict", ["checkpoint=sam2_nano", *PREDICT, "boxes=[[1,2]]"], "expected a file, or boxes for every image"),
        ("predict", ["checkpoint=sam2_nano", *PREDICT, "everything=true", "text=a"], "text and everything given"),
        ("predict", ["checkpoint=sam2_nano", *PREDICT, "boxes_of=README.md"], "give boxes=results.json, too"),
        ("export", ["path=tuned"], "checkpoint: not given; add checkpoint=..."),
        ("data", ["chekc"], "sam-data chekc: did you mean check?"),
        ("data", ["check"], "no data given: add data.root=DIR"),
        ("data", ["check", "data=coco", "data.root=sam_trian"], "data.root=sam_trian: no such file or folder"),
        ("data", ["check", "data=toy", "loader.min_area=-1"], "loader.min_area=-1: expected a number of at least 0"),
        ("data", ["convert", "data=toy", "format=coco"], "output: not given; add output=..."),
        ("data", ["convert", "data=toy", "output=x", "format=yolo"], "format=yolo: expected one of coco, datasets"),
        ("data", ["preview", "number=0"], "number=0: expected a whole number from 1 to 400"),
        ("data", ["check", "data=toy", "output=page.pdf"], "output=page.pdf: expected the name of a .html file"),
    ],
)
def test_it_is_told_before_anything_heavy_is_imported(command, arguments, expected, tmp_path):
    error = told(command, *arguments, *([f"hydra.run.dir={tmp_path}"] if "output" not in str(arguments) else []))
    assert expected in error
    assert "is imported" not in error


@pytest.mark.parametrize("name", ["2024_01_15", "1e3", "007", "1_000.5"])
def test_a_name_that_looks_like_a_number_is_a_name(name, tmp_path):
    error = told("train", "data=folder", f"data.root={name}", f"hydra.run.dir={tmp_path}/run")
    assert f"data.root={name}: no such file or folder" in error


def test_a_wandb_key_in_the_environment_or_netrc_is_enough(tmp_path):
    missing = ["data=folder", "logger=wandb", f"hydra.run.dir={tmp_path}/run"]  # refused for data.root alone
    assert "data.root" in told("train", *missing, WANDB_API_KEY="k" * 40)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    unsaid = ["data=folder", "data.root=no_such", "logger=wandb", f"hydra.run.dir={tmp_path}/run"]
    assert "wandb" not in told("train", *unsaid, HOME=str(tmp_path))


def test_a_command_that_fails_at_once_leaves_no_folder(tmp_path):
    told("train", "optim.lr=abc", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert not list(tmp_path.rglob("train.log"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
