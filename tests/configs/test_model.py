"""Every model can be chosen by its name."""

import pytest
from hydra import compose, initialize_config_dir

from sam_train.checkpoints.reading import SHIPPED
from sam_train.cli.compose import CONFIGS
from sam_train.models import PRESETS


def test_there_is_a_choice_for_every_preset_and_no_other():
    assert {path.name.removesuffix(".yaml") for path in (CONFIGS / "model").glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_choice_is_the_preset_of_its_name(preset):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        model = compose("train", [f"model={preset}"]).model
    own = {"weights": preset if preset in SHIPPED else "random", "rank": 32} if "nano" in preset else {"weights": None}
    assert model == {"preset": preset, "image_size": None, **own}
