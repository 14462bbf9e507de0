"""``--help``: what a command does, its choices, and each setting with its meaning, from the comments of the configs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import hydra
from omegaconf import OmegaConf

from sam_train.cli.overrides import CONFIGS, choices

_HIDDEN = ("_target_", "defaults", "hydra")


def help_text(name: str, arguments: list[str]) -> str:
    """Return the help of a command; ``group=choice`` among the arguments shows the settings of that choice."""
    main = CONFIGS / f"{name}.yaml"
    intro = OmegaConf.load(main).hydra.help.template
    chosen = _chosen(name, [argument for argument in arguments if argument in choices()])
    lines = [intro.rstrip(), ""]
    if chosen:
        lines += ["Choices (group=choice; [the one shown below]):", ""]
        for group in chosen:
            names = [choice.split("=")[1] for choice in choices() if choice.startswith(f"{group}=")]
            shown = [f"[{one}]" if one == chosen[group] else one for one in names]
            lines.append(f"  {group:12}{', '.join(shown)}")
        lines.append("")
    lines += ["Settings (key=value):", "", *_settings(main.read_text(), "")]
    for group, choice in chosen.items():
        if choice is not None:
            lines += ["", f"{group}={choice}: {_summary(group, choice)}", ""]
            text = _text(group, choice)
            lines += _settings(text, "" if text.startswith("# @package _global_") else f"{group}.")
    return "\n".join(lines)


def _chosen(name: str, overrides: list[str]) -> dict[str, str | None]:
    """Groups of a command and which configuration of each is chosen."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = hydra.compose(name, overrides, return_hydra_config=True)
    found = config.hydra.runtime.choices
    order = [
        key for entry in OmegaConf.load(CONFIGS / f"{name}.yaml").defaults if hasattr(entry, "keys") for key in entry
    ]
    return {group: found[group] for group in order if group in found and (CONFIGS / group).is_dir()}


def _text(group: str, choice: str) -> str:
    """A configuration's text after that of the ones it is based on."""
    text = (CONFIGS / group / f"{choice}.yaml").read_text()
    bases = re.search(r"^defaults: \[(\w+)\]", text, re.MULTILINE)
    return f"{_text(group, bases[1])}\n{text}" if bases else text


def _summary(group: str, choice: str) -> str:
    lines = (CONFIGS / group / f"{choice}.yaml").read_text().splitlines()
    return " ".join(line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @package"))


def _settings(text: str, prefix: str) -> Iterator[str]:
    """Each setting of a configuration with its value and its comment; a later one of the same name counts."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        match = re.match(r"^( *)([\w_]+):(?: ([^#]*?))?(?:\s+# (.*))?$", line)
        if match is None:
            continue
        indent, key, value, meaning = match.groups()
        path[len(indent) // 2 :] = [key]
        if any(part in _HIDDEN for part in path) or (not value and not meaning):
            continue
        value = (value or "").replace("${hydra:runtime.output_dir}", "<output>")
        setting = f"{prefix}{'.'.join(path)}={value}"
        found[".".join(path)] = f"  {setting:44} {meaning or ''}".rstrip()
    yield from found.values()
