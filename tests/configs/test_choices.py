"""Every choice of every group makes the objects it promises, with no option that nothing reads."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from sam_train.cli.compose import CONFIGS
from sam_train.tasks.averaging import MovingAverage

BUILT = ("tuning", "data", "loader", "prompts", "loss", "optim")
GROUPS = ("experiment", *BUILT)
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONFIGS / group).glob("*.yaml"))]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_builds(choice):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", [choice], return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # some defaults depend on the kind of data
        if OmegaConf.is_missing(config.data, "root"):
            config.data.root = "anywhere"
    for part in BUILT:
        assert type(instantiate(config[part])).__module__.startswith("sam_train.")


@pytest.mark.parametrize("choice", ["callbacks=default", "callbacks=ema", "experiment=pretrain_nano"])
def test_callbacks_build_and_an_average_is_taken_back_after_all_that_look(choice):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", [choice], return_hydra_config=True)
        config.hydra.runtime.output_dir = "anywhere"
        HydraConfig.instance().set_config(config)
        callbacks = [instantiate(callback) for callback in config.callbacks.values()]
    averages = [isinstance(callback, MovingAverage) for callback in callbacks]
    assert not any(averages[:-1])
    assert averages[-1] == (choice != "callbacks=default")
