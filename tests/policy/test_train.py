from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bodydouble.errors import InputError
from policy.checkpoint import load_checkpoint, save_checkpoint
from policy.nets.actor_critic import NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPOConfig
from policy.train import TrainConfig, Trained, shipped_checkpoint, train
from sim.stage.stage import Stage

TINY = TrainConfig(
    updates=2, envs=6, eval_envs=4, threads=2,
    ppo=PPOConfig(steps=8, epochs=2, minibatches=2, target_kl=0.005, optimizer=AdamConfig(lr=3e-5)),
)  # fmt: skip
FRESH = dataclasses.replace(
    TINY, warm_start="none", updates=1, net=NetConfig(actor_layers=(16,), critic_layers=(16,))
)  # fmt: skip


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(stage.path, tmp_path_factory.mktemp("train") / "policy", TINY)


def test_writes_network_manifest_and_log(trained: Trained, stage: Stage) -> None:
    assert {path.name for path in trained.path.iterdir()} == {"policy.safetensors", "policy.json", "log.jsonl"}
    lines = [json.loads(line) for line in (trained.path / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2]
    manifest = json.loads((trained.path / "policy.json").read_text())
    assert manifest["figures"] == trained.figures and manifest["kept"] == trained.kept
    assert manifest["seeds"] == [0] and manifest["warm_start"] == "unitree_g1_tracking.safetensors"
    assert trained.figures["env_steps"] == lines[-1]["env_steps"] == 2 * 8 * 6
    _, info, _ = load_checkpoint(trained.path / "policy.safetensors")
    assert info.extra["stage"] == stage.sha256


def test_the_better_network_is_kept(trained: Trained) -> None:
    figures = trained.figures
    start, after = (
        (figures[f"{name}_success_rate"], -figures[f"{name}_body_error_m"]) for name in ("start", "trained")
    )
    assert start[0] == 1.0, "the shipped policy follows a small squat"
    assert trained.kept == ("trained" if after > start else "start")
    unchanged = same(weights(trained.path / "policy.safetensors"), weights(shipped_checkpoint("unitree_g1")))
    assert unchanged == (trained.kept == "start")


def test_a_ruined_network_is_not_kept(stage: Stage, tmp_path: Path) -> None:
    """With a learning rate that destroys it, the policy that comes out is bit for bit the one that went in."""
    ppo = PPOConfig(steps=8, epochs=4, minibatches=2, target_kl=0.0, optimizer=AdamConfig(lr=0.3))
    result = train(stage.path, tmp_path / "policy", dataclasses.replace(TINY, ppo=ppo))
    assert result.kept == "start"
    assert result.figures["trained_success_rate"] < 0.5 < result.figures["start_success_rate"]
    assert same(weights(result.path / "policy.safetensors"), weights(shipped_checkpoint("unitree_g1")))
    _, before, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    _, info, _ = load_checkpoint(result.path / "policy.safetensors")
    assert (info.updates, info.env_steps) == (before.updates, before.env_steps)


def test_a_finished_training_is_left_as_it_is(trained: Trained, stage: Stage) -> None:
    path = trained.path / "policy.safetensors"
    written = path.stat().st_mtime_ns
    again = train(stage.path, trained.path, TINY)
    assert again == trained and path.stat().st_mtime_ns == written


def test_from_nothing_the_seed_decides_every_bit(stage: Stage, tmp_path: Path) -> None:
    first, second = (train(stage.path, tmp_path / name, FRESH) for name in ("first", "second"))
    other = train(stage.path, tmp_path / "other", dataclasses.replace(FRESH, seed=1))
    assert same(weights(first.path / "policy.safetensors"), weights(second.path / "policy.safetensors"))
    assert not same(weights(first.path / "policy.safetensors"), weights(other.path / "policy.safetensors"))
    skip = {"env_steps_per_s", "train_s"}
    assert {k: v for k, v in first.figures.items() if k not in skip} == {
        k: v for k, v in second.figures.items() if k not in skip
    }
    net, info, _ = load_checkpoint(first.path / "policy.safetensors")
    assert net.config == FRESH.net and info.robot == "unitree_g1"
    manifest = json.loads((first.path / "policy.json").read_text())
    assert manifest["warm_start"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": 0}, "config.updates is 0, expected at least 1"),
        ({"envs": 0}, "config.envs is 0"),
        ({"eval_envs": -1}, "config.eval_envs is -1"),
        ({"envs": 1, "ppo": PPOConfig(steps=2, minibatches=4)}, "less than config.ppo.minibatches"),
        ({"warm_start": "nowhere.safetensors"}, "nowhere.safetensors: no such checkpoint"),
    ],
)
def test_settings_that_cannot_work_are_refused(stage: Stage, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(stage.path, tmp_path / "policy", dataclasses.replace(TINY, **change))
    assert not (tmp_path / "policy").exists()


def test_a_checkpoint_of_another_robot_is_refused(stage: Stage, tmp_path: Path) -> None:
    net, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, net, dataclasses.replace(info, robot="unitree_h1"))
    with pytest.raises(InputError, match="is a policy for robot unitree_h1"):
        train(stage.path, tmp_path / "policy", dataclasses.replace(TINY, warm_start=str(other)))


def test_no_checkpoint_is_shipped_for_every_robot() -> None:
    with pytest.raises(InputError, match="no checkpoint is shipped for robot i2rt_yam; train with"):
        shipped_checkpoint("i2rt_yam")
