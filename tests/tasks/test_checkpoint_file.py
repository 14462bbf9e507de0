"""A checkpoint is on the disk whole, or the one before it is."""

import pytest
import torch

from sam_train.errors import InputError
from sam_train.tasks.callbacks import BestCheckpoint
from sam_train.tasks.checkpoint_file import WholeCheckpoints


def test_an_error_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": torch.tensor(1)}, path)
    with pytest.raises(AttributeError):
        WholeCheckpoints().save_checkpoint({"step": torch.tensor(2), "cannot be saved": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    WholeCheckpoints().save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(2)}


def test_several_best_checkpoints_want_several_names(tmp_path):
    with pytest.raises(InputError, match="save_top_k=3 with the one name 'best'"):
        BestCheckpoint(tmp_path, "best", save_top_k=3)
    assert BestCheckpoint(tmp_path, "best-{step}", save_top_k=3, monitor="val/iou").save_top_k == 3
