"""Groups that the names of images say: patients, slides, videos."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sam_train.errors import InputError


def match_groups(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the group that a regular expression finds in each name: its first group, or else the whole match.

    Raises:
        InputError: If ``data.group_pattern`` is no regular expression, or finds nothing in a name.
    """
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise InputError(f"data.group_pattern={pattern}: no regular expression ({error}); try '^[^_]+'") from error
    groups = [(match[1] if match.re.groups else match[0]) if match else None for match in found]
    if missed := [name for name, group in zip(names, groups, strict=True) if not group]:
        raise InputError(
            f"data.group_pattern={pattern}: finds no group in {len(missed)} of {len(names)} image names, such as "
            f"{missed[0]!r}; write a pattern that finds one in every name"
        )
    return [group for group in groups if group]
