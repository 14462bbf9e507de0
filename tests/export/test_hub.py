"""An export is uploaded and read back by its name; what stands in the way is told in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam_train.checkpoints import save_checkpoint
from sam_train.errors import InputError
from sam_train.export.hub import _uploaded, require_repository, require_token
from tests.checkpoints.tiny import build
from tests.export.hub_stand_in import READER, WRITER, StandIn

ROOT = Path(__file__).parents[2]
# In a process of its own: the client reads its address and whether it is offline when it is imported.
SCRIPT = """
import os, sys
from huggingface_hub import constants
from sam_train.checkpoints import load_checkpoint
from sam_train.errors import InputError
from sam_train.export.hub import push
from tests.checkpoints.tiny import build, same_weights

def attempt(token, endpoint=constants.ENDPOINT):
    os.environ.pop("HF_TOKEN", None)
    os.environ |= {"HF_TOKEN": token} if token else {}
    constants.ENDPOINT = endpoint
    try:
        print(push(Path(sys.argv[1]), "person/polyps"))
    except InputError as error:
        print(error)

from pathlib import Path
here = constants.ENDPOINT
attempt(None)
attempt(sys.argv[2])
attempt(sys.argv[3], "http://127.0.0.1:9")
attempt(sys.argv[3], here)
read = build(seed=1)
load_checkpoint(read, "person/polyps")
print(same_weights(read, build()))
"""


def test_a_folder_is_uploaded_in_one_commit_and_read_back_by_its_name(tmp_path):
    folder = tmp_path / "polyps"
    save_checkpoint(build(), folder, "huggingface")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n`sam_vit_b`, fine-tuned with sam_train.\n")
    for name in ("notes.txt", "patients.json", ".secret/config.json", "other/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not of the export")
    with StandIn() as hub:
        environment = {
            **{name: value for name, value in os.environ.items() if "PROXY" not in name.upper()},
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", SCRIPT, str(folder), READER, WRITER]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    unknown, refused, unreachable, address, same = done.stdout.splitlines()
    assert unknown.startswith("push=person/polyps: the hub does not know the token, or there is none (401); what was")
    assert "hf auth login" in unknown
    assert refused.startswith(
        "push=person/polyps: the token has no right to write there (403); what was exported stays"
    )
    assert unreachable.startswith("push=person/polyps: the hub cannot be reached (")
    assert address == f"{hub.endpoint}/person/polyps/commit/{'a' * 40}"
    assert same == "True"
    assert {name: (folder / name).read_bytes() for name in hub.files} == hub.files
    assert hub.files.keys() == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert hub.created == [{"name": "polyps", "organization": "person", "visibility": "private"}]
    assert [entry for entry in hub.log if "/commit/" in entry] == ["POST /api/models/person/polyps/commit/main"]


def test_a_readme_of_ones_own_is_not_uploaded(tmp_path):
    (tmp_path / "encoder.pt2").touch()
    (tmp_path / "README.md").write_text("# My notes\n")
    (tmp_path / "sam_train_images.json").write_text("{}")
    assert _uploaded(tmp_path).keys() == {"encoder.pt2", "sam_train_images.json"}


@pytest.mark.parametrize("name", ["polyps", "a/b/c", "person/", "person/pol yps", "../polyps"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(InputError, match="expected USER/NAME"):
        require_repository(name)


def test_a_missing_token_is_told_before_anything_is_exported(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="push=person/polyps: there is no token on this machine; run `hf auth login`"):
        require_token("person/polyps")
