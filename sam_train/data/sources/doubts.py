"""Questions that are asked of every image of a set and judged by all the answers together."""

from __future__ import annotations

from dataclasses import dataclass

from sam_train.errors import Problem


@dataclass(frozen=True, order=True)
class Answer(Problem):
    """One image's answer to a question that is asked of the whole set; :attr:`kind` names the question.

    Attributes:
        holds: Whether the answer is yes; a no only counts.
    """

    holds: bool = True


@dataclass(frozen=True, order=True)
class Doubt(Answer):
    """A problem only where it is the rule: where at least half of the answers are yes."""


@dataclass(frozen=True, order=True)
class Notice(Answer):
    """Something that a person should know and that stops nothing."""
