"""One sentence for a person who made a mistake."""

from __future__ import annotations

from typing import NoReturn


def say(message: str) -> None:
    """Print a mistake to stderr."""
    from rich.console import Console
    from rich.text import Text

    error = Text.assemble(("error:", "bold red"), f" {message}")  # not markup: file names and patterns have brackets
    Console(stderr=True, soft_wrap=True, highlight=False).print(error)


def fail(message: str) -> NoReturn:
    """Print a mistake and end the program with exit code 2; also where Hydra would wrap an exception in its own."""
    say(message)
    raise SystemExit(2)
