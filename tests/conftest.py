"""What every test shares."""

import logging
import os

os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side, and threads of two processes would wait for each other

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from tests import typecheck

# Shapes in signatures are checked in tests only; nothing decorates at run time. Modules of options are left out: what
# they refuse in a person's words the checker would refuse in its own first.
install_import_hook(
    ["sam_train.structures", "sam_train.models", "sam_train.prompts.sampling", "sam_train.metrics"],
    f"{typecheck.__name__}.typecheck",
)

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def offline():
    """No test reaches for a network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["WANDB_MODE"] = "offline"


@pytest.fixture(autouse=True)
def logs_of_commands():
    """The log that a command begins in its folder ends with the test: the folder is gone in the next one."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler) and handler not in before:
            root.removeHandler(handler)
            handler.close()
