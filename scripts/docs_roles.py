"""Docstrings' references to other things, ``:class:`Run```, as links of the API pages (an extension of griffe)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):`~?\.?([\w.]+)`")


class Roles(griffe.Extension):
    """Turns roles into links where an API page has what they name, and into code elsewhere."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(lambda match: _link(obj, match[1]), obj.docstring.value)


def _link(obj: griffe.Object, name: str) -> str:
    head, dot, rest = name.partition(".")
    try:
        path = name if head == "sam_train" else f"{obj.resolve(head)}{dot}{rest}"
    except griffe.NameResolutionError:
        path = name
    return f'<autoref identifier="{path}" optional>`{name}`</autoref>'
