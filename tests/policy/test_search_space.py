from __future__ import annotations

import math

import numpy as np
import pytest

from bodydouble.errors import InputError
from policy.optim.registry import AdamConfig, NamoConfig
from policy.rl.objectives.vespo import VESPO
from policy.search_space import Axis, settings, with_settings
from policy.train import TrainConfig
from policy.train_task import TaskTrainConfig


def test_a_grid_has_every_combination_in_order() -> None:
    axes = [Axis.parse("ppo.optimizer=adam,namo"), Axis.parse("ppo.epochs=3,5")]
    assert settings(axes, draws=0, seed=0) == [
        {"ppo.optimizer": optimizer, "ppo.epochs": epochs} for optimizer in ("adam", "namo") for epochs in ("3", "5")
    ]
    assert settings([], draws=0, seed=0) == [{}], "nothing varies but the seeds"


def test_draws_stay_in_their_ranges_and_repeat() -> None:
    axes = [Axis.parse("ppo.optimizer.lr=1e-5..1e-3:log"), Axis.parse("ppo.gamma=0.9..0.99"), Axis.parse("envs=8,16")]
    drawn = settings(axes, draws=400, seed=3)
    assert drawn == settings(axes, draws=400, seed=3) != settings(axes, draws=400, seed=4)
    lr = np.array([float(values["ppo.optimizer.lr"]) for values in drawn])
    gamma = np.array([float(values["ppo.gamma"]) for values in drawn])
    assert lr.min() >= 1e-5 and lr.max() <= 1e-3 and gamma.min() >= 0.9 and gamma.max() <= 0.99
    # Uniform in the logarithm: half of them below the geometric mean.
    assert 0.4 < (lr < math.sqrt(1e-5 * 1e-3)).mean() < 0.6
    assert {values["envs"] for values in drawn} == {"8", "16"}


def test_values_take_the_types_of_their_fields() -> None:
    config = with_settings(
        TrainConfig(),
        {
            "ppo.optimizer": "namo", "ppo.optimizer.lr": "1e-4", "ppo.objective": "vespo", "ppo.epochs": "3",
            "ppo.gamma": "1", "net.actor_layers": "[64,32]", "tensorboard": "true", "warm_start": "none",
            "ppo.advantage": "group",
        },
    )  # fmt: skip
    assert config.ppo.optimizer == NamoConfig(lr=1e-4) and config.ppo.objective == VESPO()
    assert config.ppo.epochs == 3 and config.ppo.gamma == 1.0 and isinstance(config.ppo.gamma, float)
    assert config.net.actor_layers == (64, 32) and config.tensorboard is True and config.warm_start == "none"
    assert config.ppo.advantage == "group"
    # Another optimizer keeps the rate unless that varies too.
    kept = with_settings(TrainConfig(), {"ppo.optimizer": "adamw"}).ppo.optimizer
    assert kept.lr == TrainConfig().ppo.optimizer.lr and not isinstance(kept, AdamConfig)


def test_lists_are_not_cut_at_their_commas() -> None:
    assert Axis.parse("net.actor_layers=[64,32],[128]").values == ("[64,32]", "[128]")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ppo.lr": "1"}, "there is no 'lr' among .*optimizer"),
        ({"updates.more": "1"}, "updates has no settings of its own"),
        ({"updates": "1.5"}, "'1.5' is no int"),
        ({"updates": "many"}, "'many' is no int"),
        ({"tensorboard": "1"}, "'1' is no bool"),
        ({"ppo.gamma": "true"}, "'true' is no float"),
        ({"ppo.optimizer": "sgd"}, "'sgd' is none of adam, adamw"),
        ({"ppo.advantage": "best"}, "'best' is none of gae, group"),
        ({"ppo.optimizer.lr": "1"}, "ppo.optimizer.lr 1 lies outside"),
    ],
)
def test_what_cannot_be_set_is_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_settings(TaskTrainConfig(), values)


@pytest.mark.parametrize("text", ["", "lr", "lr=", "=1", "lr=2..1", "lr=0..1:log", "lr=..", "lr=1e..2"])
def test_what_varies_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--sweep\.vary"):
        settings([Axis.parse(text)], draws=0, seed=0)


def test_a_range_has_no_grid_and_a_name_comes_once() -> None:
    with pytest.raises(InputError, match=r"a range has no grid.*--sweep\.draws"):
        settings([Axis.parse("lr=1..2")], draws=0, seed=0)
    with pytest.raises(InputError, match="names lr twice"):
        settings([Axis.parse("lr=1"), Axis.parse("lr=2")], draws=0, seed=0)
