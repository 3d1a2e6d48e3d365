from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bodydouble.errors import InputError
from policy.checkpoint import load_checkpoint, save_checkpoint
from policy.interface import interface
from policy.nets.actor_critic import NetConfig
from policy.optim.registry import AdamConfig, NamoDConfig, optimizer_config
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.rollout import Rollout
from policy.shipped import shipped_checkpoint
from policy.train import TrainConfig, Trained, train, unfinished
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
    assert info.extra["stage"] == stage.sha256 and info.extra["interface"] == interface(stage)


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


def logged(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "env_steps_per_s")} for line in lines]


def test_a_killed_training_goes_on_exactly(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in its fourth update, with checkpoints every two: the same command ends with the same log and policy."""
    config = dataclasses.replace(FRESH, updates=5, checkpoint_every=2)
    whole = train(stage.path, tmp_path / "whole", config)
    update, calls = PPO.update, 0

    def killed(ppo: PPO, rollout: Rollout) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return update(ppo, rollout)

    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(PPO, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            train(stage.path, out, config)
    assert {path.name for path in unfinished(out).iterdir()} == {"training.safetensors", "log.jsonl"}
    assert len(logged(unfinished(out))) == 3, "one line more than the checkpoint has updates"
    resumed = train(stage.path, out, config)
    assert json.loads((out / "policy.json").read_text())["resumed_at_update"] == 2
    assert logged(out) == logged(whole.path) and len(logged(out)) == 5
    assert same(weights(out / "policy.safetensors"), weights(whole.path / "policy.safetensors"))
    skip = {"env_steps_per_s", "train_s"}
    assert all(resumed.figures[name] == whole.figures[name] for name in whole.figures if name not in skip)
    assert not unfinished(out).exists()


def test_an_unfinished_training_of_other_settings_is_not_gone_on_with(stage: Stage, tmp_path: Path) -> None:
    out = tmp_path / "policy"
    unfinished(out).mkdir()
    net, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    info = dataclasses.replace(info, extra={"inputs": "of another configuration"})
    save_checkpoint(unfinished(out) / "training.safetensors", net, info)
    (unfinished(out) / "log.jsonl").write_text('{"update": 1}\n')
    train(stage.path, out, FRESH)
    assert json.loads((out / "policy.json").read_text())["resumed_at_update"] == 0
    assert len(logged(out)) == 1 and not unfinished(out).exists()


def test_an_optimizer_of_the_registry_trains(stage: Stage, tmp_path: Path) -> None:
    ppo = dataclasses.replace(TINY.ppo, optimizer=NamoDConfig(lr=3e-5))
    result = train(stage.path, tmp_path / "policy", dataclasses.replace(FRESH, ppo=ppo, tensorboard=True))
    assert len(list((result.path / "tensorboard").glob("events.*"))) == 1
    config = json.loads((result.path / "policy.json").read_text())["provenance"]["config"]
    assert config["ppo"]["optimizer"]["name"] == "namo_d"
    assert optimizer_config(config["ppo"]["optimizer"]) == NamoDConfig(lr=3e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": 0}, "config.updates is 0, expected at least 1"),
        ({"envs": 0}, "config.envs is 0"),
        ({"eval_envs": -1}, "config.eval_envs is -1"),
        ({"checkpoint_every": -1}, "config.checkpoint_every is -1, expected 0 or more"),
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


def test_actors_in_processes_of_their_own_train_too(stage: Stage, tmp_path: Path) -> None:
    config = dataclasses.replace(FRESH, updates=2, actors=1)
    threads = torch.get_num_threads()
    made = train(stage.path, tmp_path / "policy", config)
    torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (made.path / "log.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [1, 2] and all(0 <= line["lag"] <= 1 for line in lines)
    assert made.figures["env_steps"] == 2 * 8 * 6


def test_actors_that_do_not_divide_the_environments_are_refused(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.actors is 4, expected 0 or a number that divides envs 6"):
        train(stage.path, tmp_path / "policy", dataclasses.replace(FRESH, actors=4))
