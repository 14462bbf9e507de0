"""What the tests of commands share."""

import pytest

from tests.e2e.commands import SMALL, run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run("train", monkeypatch, *SMALL, f"hydra.run.dir={folder}")
    return folder
