"""``data.root=`` without ``data=``: the kind of data is what the folder plainly holds."""

from __future__ import annotations

import sys
from pathlib import Path

from sam_train.cli.values import require_path
from sam_train.data.sources.other_kinds import other_kinds
from sam_train.data.sources.recognizing import recognize
from sam_train.errors import InputError

_SAYING = ("data", "experiment", "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Arguments that say, or may say, what kind of data it is."""


def with_kind_of_data(arguments: list[str]) -> list[str]:
    """Return the arguments and, where they name a folder but no kind of data, what reads that folder.

    Raises:
        InputError: If the folder is not there, or can be read in no way or in several.
    """
    names = [argument.partition("=")[0] for argument in arguments]
    roots = [argument for argument, name in zip(arguments, names, strict=True) if name == "data.root"]
    if len(roots) != 1 or set(names) & set(_SAYING):
        return arguments
    value = roots[0].partition("=")[2].strip("'\"")
    if "," in value or "${" in value:  # a sweep over folders, or a reference
        return arguments
    require_path("data.root", value)
    found = recognize(Path(value).expanduser())
    if not found:
        raise InputError(
            f"data.root={value}: neither images/ with masks/, nor a COCO json with images, nor volumes with labels (as "
            f"imagesTr/ and labelsTr/, or DICOM), nor tables, arrays or tars are there; say with data=... what it is"
            f"{other_kinds(Path(value))}"
        )
    if len(found) > 1:
        ways = "".join(f"\n  {' '.join(one.words):30} {one.what}" for one in found)
        raise InputError(f"data.root={value}: may be read in {len(found)} ways; say which by adding{ways}")
    sys.stdout.write(f"found {found[0].what}: {' '.join(found[0].words)}\n")
    sys.stdout.flush()
    return [*arguments, *found[0].words]
