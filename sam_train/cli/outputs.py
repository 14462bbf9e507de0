"""Files that a command may write."""

from __future__ import annotations

from pathlib import Path

from sam_train.errors import InputError

_HEAD = 4096  # bytes in which a file says what made it


def require_own(name: str, suffix: str, maker: str) -> Path:
    """Return the path of a file to write; what is there already must be an earlier one of the same command.

    Args:
        name: As given by ``output=``.
        suffix: That it must have.
        maker: What such a file says at its beginning.

    Raises:
        InputError: If it has another suffix, is a folder, or is someone else's file.
    """
    path = Path(str(name)).expanduser()
    if path.suffix.lower() != suffix:
        raise InputError(f"output={name}: expected the name of a {suffix} file")
    if path.is_dir():
        raise InputError(f"output={name}: a folder; name a {suffix} file in it")
    if path.exists():
        with path.open("rb") as file:
            if maker.encode() not in file.read(_HEAD):
                raise InputError(f"output={name}: is there already, and {maker} did not make it; name another file")
    return path
