"""Differences between a file and a model, in a form that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sam_train.checkpoints.huggingface import is_huggingface, layout_of, to_huggingface
from sam_train.models import PRESETS, build_model

_LINES = 6  # per kind of difference: enough to see the pattern, few enough to read
_SIMILAR = 0.5  # share of common tensors from which a file is called a model; sizes of one family share less

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Mismatch:
    """Where a file and a model disagree.

    Attributes:
        missing: Names of the model that the file lacks.
        unexpected: Names of the file that the model lacks.
        misshaped: Per name, the shape in the file and in the model.
        config: Differences that no shape shows, in words.
        remedy: What to do, where that is known.
    """

    missing: list[str]
    unexpected: list[str]
    misshaped: dict[str, tuple[Shape, Shape]]
    config: list[str]
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped or self.config)

    def describe(self) -> str:
        """Return all differences in lines, numbered blocks put together, at most a few lines for each kind."""
        by_shapes: dict[tuple[Shape, Shape], list[str]] = {}
        for name, shapes in self.misshaped.items():
            by_shapes.setdefault(shapes, []).append(name)
        misshaped = [
            f"{line}: {theirs} in the file, {ours} in the model"
            for (theirs, ours), names in by_shapes.items()
            for line in group_names(names)
        ]
        kinds = (
            ("missing in the file", len(self.missing), group_names(self.missing)),
            ("unexpected in the file", len(self.unexpected), group_names(self.unexpected)),
            ("of another shape", len(self.misshaped), misshaped),
            ("of another configuration", len(self.config), self.config),
        )
        return "\n".join(line for title, count, lines in kinds if count for line in _section(title, count, lines))


def _section(title: str, count: int, lines: list[str]) -> list[str]:
    rest = [f"... and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
    return [f"  {title} ({count}):", *(f"    {line}" for line in lines[:_LINES] + rest)]


def group_names(names: Iterable[str]) -> list[str]:
    """Return names of parameters in few lines, numbered blocks put together: "blocks.12-23.* (288 tensors)"."""
    blocks: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)\.(\d+)\.(.*)", name)
        blocks.setdefault(match[1] if match else name, []).append((int(match[2]), match[3]) if match else (-1, ""))
    lines = []
    for head, members in blocks.items():
        if members[0][0] < 0:
            lines.append(head)
            continue
        tails = {tail for _, tail in members}
        count = f" ({len(members)} tensors)" if len(members) > 1 else ""
        tail = tails.pop() if len(tails) == 1 else "*"
        lines.append(f"{head}.{_ranges({number for number, _ in members})}.{tail}{count}")
    return lines


def _ranges(numbers: set[int]) -> str:
    starts = [number for number in sorted(numbers) if number - 1 not in numbers]
    ends = [number for number in sorted(numbers) if number + 1 not in numbers]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def guess(tensors: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> str:
    """Say in one or two sentences what a file with these tensors seems to be, given that it does not fit the model."""
    presets, similarity = _nearest_presets(tensors)
    (model_preset, *_), _ = _nearest_presets(model_state)
    naming = "Hugging Face's" if is_huggingface(tensors) else "Meta's"
    if similarity < _SIMILAR:
        return f"It is none of the models here ({', '.join(PRESETS)})."
    seems = "It is" if similarity == 1 else "It looks most like"
    use = " or ".join(f"model={preset}" for preset in presets)
    remedy = "" if model_preset in presets else f"; the model is {model_preset}: use {use}"
    return f"{seems} {' or '.join(presets)} in {naming} naming{remedy}."


def _nearest_presets(tensors: Mapping[str, Tensor]) -> tuple[list[str], float]:
    """Return the presets that share most names and shapes with these tensors, and the share.

    This is mostly one preset; without the memory's weights SAM 2 and 2.1 are the same.
    """
    theirs = {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}

    def similarity(preset: str) -> float:
        whole, needed = _preset_shapes(preset, is_huggingface(tensors))
        return max(len(theirs & ours) / len(theirs | ours) if ours else 0.0 for ours in (whole, needed))

    similarities = {preset: similarity(preset) for preset in PRESETS}
    highest = max(similarities.values())
    return [preset for preset in PRESETS if similarities[preset] == highest], highest


@cache
def _preset_shapes(preset: str, huggingface: bool) -> tuple[frozenset[tuple[str, Shape]], ...]:
    """Return names and shapes of all tensors of a preset, and of the tensors that images need."""
    with torch.device("meta"):
        model = build_model(preset)
    whole, unused = model.state_dict(), dict(model.unused_shapes)
    needed = {name: tensor for name, tensor in whole.items() if name not in unused}
    states = whole, needed
    if huggingface:
        layout = layout_of(model)
        states = tuple(
            to_huggingface(state, layout.renames, layout.stores_copies) if layout else {} for state in states
        )
    return tuple(frozenset((name, tuple(tensor.shape)) for name, tensor in state.items()) for state in states)
