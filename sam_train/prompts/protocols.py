"""How held-out objects are prompted: nothing is drawn anew, so scores repeat whatever the batches or devices."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor

from sam_train.errors import InputError
from sam_train.prompts.simulator import PromptSimulator, has_given
from sam_train.structures import Batch

SCORED_CLICKS = 5
"""Clicks after which the protocol ``clicks`` is scored; more only continue the curve of IoU against clicks."""
_MOST_CLICKS = 20


@dataclass(frozen=True)
class Protocol:
    """A way to prompt each object of an image.

    Attributes:
        simulator: The person who prompts.
        title: What it is, for people.
        scored_after: Rounds of prompts after which masks are scored; None for all.
        has_curve: Whether the IoU after each round is of interest.
        is_shuffled: Whether each object gets the prompt of the next object of its image: a model that listens to its
            prompts then finds that object and not this one. Images with a single object are left out.
    """

    simulator: PromptSimulator
    title: str
    scored_after: int | None = None
    has_curve: bool = False
    is_shuffled: bool = False

    @property
    def num_rounds(self) -> int:
        """Rounds after which masks are scored."""
        return self.scored_after or self.simulator.corrections + 1

    def objects(self, batch: Batch) -> Int[Tensor, "k"]:
        """Return the indices of the objects of a batch of one image that can be prompted this way."""
        everything = torch.arange(batch.num_objects, device=batch.masks.device)
        if self.is_shuffled and batch.num_objects < 2:
            return everything[:0]
        return everything[has_given(batch)] if self.simulator.given else everything

    def prompted(self, batch: Batch) -> Batch:
        """Return the batch of one image whose masks the simulator is to look at."""
        if not self.is_shuffled:
            return batch
        return replace(batch, masks=batch.masks.roll(-1, 0), given=batch.given and batch.given.rolled(-1))


def find_protocols(names: Sequence[str], clicks: int = SCORED_CLICKS) -> dict[str, Protocol]:
    """Find protocols by name.

    Args:
        names: ``box`` (tight), ``box_5`` (each corner off by up to 5% of the box's sides; any number), ``point`` (one
            click in the middle), ``clicks``, ``mask`` (a rough mask), ``given`` (boxes and points that came with the
            data), ``shuffled`` (the box of another object of the image).
        clicks: Of the protocol ``clicks``: one in the middle of the object and then in the middle of the largest error.

    Raises:
        InputError: If there is no protocol of a name, a name is given twice, or a number is out of range.
    """
    if not 1 <= clicks <= _MOST_CLICKS:
        raise InputError(f"evaluation.clicks={clicks}: from 1 to {_MOST_CLICKS}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"evaluation.protocols={list(names)}: give at least one, and each once")
    return {str(name): _find(str(name), clicks) for name in names}


def _find(name: str, clicks: int) -> Protocol:
    if match := re.fullmatch(r"box_(\d{1,2})", name):
        noise = int(match[1])
        simulator = PromptSimulator(box=1, box_noise=noise / 100, box_noise_limit=math.inf)
        return Protocol(simulator, f"box, corners off by up to {noise}%")
    person = PromptSimulator(center=1, corrections=clicks - 1, correct_at="center")
    scored = min(clicks, SCORED_CLICKS)
    known = {
        "box": Protocol(PromptSimulator(box=1, box_noise=0), "box"),
        "point": Protocol(PromptSimulator(center=1), "1 click"),
        "clicks": Protocol(person, f"{scored} clicks", scored, has_curve=True),
        "mask": Protocol(PromptSimulator(mask=1), "rough mask"),
        "given": Protocol(PromptSimulator(given=1, box_noise=0), "the data's own prompts"),
        "shuffled": Protocol(PromptSimulator(box=1, box_noise=0), "another object's box", is_shuffled=True),
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.4)
        raise InputError(
            f"evaluation.protocols: no protocol {name!r}; nearest: {', '.join(near) or '-'}; all: {', '.join(known)}, "
            "and box_5, box_10 ... for boxes that are off"
        )
    return known[name]


EVALUATION: Mapping[str, Protocol] = MappingProxyType(find_protocols(["box", "point", "clicks"]))
"""What a run is reported on if nothing else is said."""
