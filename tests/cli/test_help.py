"""``--help`` says in a line what each setting means."""

import re

import pytest
from omegaconf import DictConfig, OmegaConf

from sam_train.cli.help import help_text
from sam_train.cli.overrides import CONFIGS, choices

UNSAID = ("_target_", "defaults", "hydra")


def keys(config, prefix=""):
    for key in config:
        if key not in UNSAID:
            value = config._get_node(key)
            if isinstance(value, DictConfig):
                yield from keys(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"


@pytest.mark.parametrize("choice", [one for one in choices() if not one.startswith("experiment=")])
def test_every_setting_of_every_choice_has_its_meaning(choice):
    group, _, name = choice.partition("=")
    path = CONFIGS / group / f"{name}.yaml"
    content, prefix = OmegaConf.load(path), "" if path.read_text().startswith("# @package _global_") else f"{group}."
    text = help_text("train", [choice])
    for key in keys(content):
        assert re.search(rf"^  {re.escape(prefix + key)}=\S.* +\S", text, re.MULTILINE), key


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "predict", "check", "preview", "convert", "app"])
def test_every_setting_of_a_command_has_its_meaning(command):
    text = help_text(command, [])
    for key in keys(OmegaConf.load(CONFIGS / f"{command}.yaml")):
        assert re.search(rf"^  {re.escape(key)}=\S.* +\S", text, re.MULTILINE), key


def test_the_choice_asked_for_is_shown():
    assert "data.root=???" in help_text("train", ["data=folder"])
    assert "data.root=???" not in help_text("train", [])
    assert re.search(r"coco, .*\[folder\], hf, .*toy", help_text("train", ["data=folder"]))
