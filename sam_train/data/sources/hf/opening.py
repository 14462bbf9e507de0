"""Opens a data set from files or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sam_train.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

_TABLES = {".parquet": "parquet", ".arrow": "arrow"}


def open_dataset(root: Path | None, hub: str | None, subset: str | None) -> dict[str, Dataset]:
    """Return the splits of a data set by their names; rows are read when asked for.

    Args:
        root: A folder that ``save_to_disk`` wrote, of parquet files or of images with metadata; or one table.
        hub: Name on the hub, as ``owner/name``.
        subset: Name of its configuration.

    Raises:
        InputError: If it cannot be opened.
    """
    import datasets

    where = f"data.root={root}" if root is not None else f"data.hub={hub}"
    try:
        if hub is not None:
            found = datasets.load_dataset(hub, subset)
        elif root is not None and root.is_file():
            if root.suffix not in _TABLES:
                raise InputError(f"{where}: expected a folder, or a file of {' or '.join(_TABLES)}")
            found = datasets.load_dataset(_TABLES[root.suffix], data_files=str(root))
        elif root is not None and any((root / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
            found = datasets.load_from_disk(str(root))
        else:
            found = datasets.load_dataset(str(root), subset)
    except InputError:
        raise
    except Exception as error:  # of networks, files and their content
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{where}: no data set that `datasets` can open ({first})") from error
    if isinstance(found, datasets.Dataset):
        return {str(found.split or "all"): found}
    assert isinstance(found, datasets.DatasetDict)
    return {str(name): found[name] for name in found}
