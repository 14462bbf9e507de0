"""How a run's checkpoints get onto the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sam_train.files import written_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one before and then puts it in its place, so that one of them is always whole.

    Lightning's own writes into the system's temporary folder. Where that is another disk, the last checkpoint is gone
    before the new one is there, and a small one cannot hold it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file; after an error the one before is still there."""
        with written_whole(Path(path), durable=True) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
