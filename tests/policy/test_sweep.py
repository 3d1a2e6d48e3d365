"""Ray's workers: sweeps, and one policy over several stages. Ray takes seconds to start, so one test does much."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bodydouble.errors import InputError, TrainingError
from policy.checkpoint import load_checkpoint
from policy.cluster import ClusterConfig, cause_of, cluster
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.scenes import SceneRunner
from policy.sweep import SweepConfig, Trial, _rows, run_sweep, stage_trials, task_trials
from policy.train import TrainConfig, train
from policy.train_task import TaskTrainConfig
from sim.stage.flat import flat_stage
from sim.stage.stage import Stage
from sim.tasks.reach.config import ReachConfig
from tests.policy.artifacts import squat_motion
from tests.policy.rl.reach_task import ReachTask

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra ray)")
PPO_TINY = PPOConfig(steps=8, epochs=2, minibatches=2, target_kl=0.0, optimizer=AdamConfig(lr=1e-3))
TINY = TaskTrainConfig(updates=2, envs=6, eval_envs=4, net=NetConfig((16,), (16,)), ppo=PPO_TINY)
SHORT = ReachConfig(episode_s=0.4)
TWO = SweepConfig(seeds=2, workers=2)


def trial(name: str, seed: int, **values: str) -> Trial:
    return Trial(name, values, seed, dict)


def test_rows_are_means_over_seeds_the_best_first_and_failures_count() -> None:
    trials = [trial("a0", 0, lr="1"), trial("a1", 1, lr="1"), trial("b0", 0, lr="2"), trial("b1", 1, lr="2")]
    trials += [trial("c0", 0, lr="3")]
    outcomes: dict[str, dict[str, Any]] = {
        "a0": {"figures": {"success": 0.2}}, "a1": {"figures": {"success": 0.4}},
        "b0": {"figures": {"success": 0.9}}, "b1": {"failed": "diverged"}, "c0": {"failed": "diverged"},
    }  # fmt: skip
    rows = _rows(trials, outcomes, SweepConfig(metric="success"))
    assert [row["values"]["lr"] for row in rows] == ["2", "1", "3"]
    assert rows[0] == {"values": {"lr": "2"}, "mean": 0.9, "std": None, "seeds": 1, "failed": 1}
    assert rows[1]["mean"] == pytest.approx(0.3) and rows[1]["std"] == pytest.approx(0.02**0.5)
    assert rows[2]["mean"] is None and rows[2]["failed"] == 1
    lower = _rows(trials, outcomes, SweepConfig(metric="success", lower=True))
    assert [row["values"]["lr"] for row in lower] == ["1", "2", "3"]
    with pytest.raises(InputError, match=r"sweep\.metric 'reward' is not among the figures success"):
        _rows(trials, outcomes, SweepConfig(metric="reward"))


def test_every_stage_setting_and_seed_is_a_trial(stage: Stage, tmp_path: Path) -> None:
    sweep = dataclasses.replace(TWO, vary=("ppo.epochs=1,2",), cluster=ClusterConfig(cpus=3))
    trials = stage_trials([stage.path, stage.path], tmp_path, TrainConfig(seed=5), sweep)
    assert len(trials) == 2 * 2 * 2 and len({t.name for t in trials}) == 8
    assert [t.seed for t in trials[:4]] == [5, 6, 5, 6]
    assert trials[2].values == {"stage": str(stage.path), "ppo.epochs": "2"}
    assert trials[2].run.config.ppo.epochs == 2 and trials[2].run.config.threads == 3  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="nowhere: no such stage folder"):
        stage_trials([stage.path, Path("nowhere")], tmp_path, TrainConfig(), sweep)
    with pytest.raises(InputError, match=r"--sweep\.vary seed: the seeds are"):
        stage_trials([stage.path], tmp_path, TrainConfig(), SweepConfig(vary=("seed=1,2",)))


def test_what_ended_a_worker_keeps_its_kind() -> None:
    class FromRayError(Exception):
        cause = InputError("no such file")

    assert isinstance(cause_of(FromRayError(), "worker 1"), InputError)
    assert str(cause_of(FromRayError(), "worker 1")) == "worker 1: no such file"
    FromRayError.cause = ZeroDivisionError("by zero")  # type: ignore[assignment]
    assert str(cause_of(FromRayError(), "w")) == "w failed: ZeroDivisionError: by zero"
    assert "its process ended (OSError: gone)" in str(cause_of(OSError("gone"), "w"))


@pytest.mark.parametrize("change", [{"seeds": 0}, {"draws": -1}, {"workers": -1}])
def test_numbers_too_small_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"sweep\."):
        SweepConfig(**change)  # type: ignore[arg-type]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'bodydouble\[ray\]'"), cluster(ClusterConfig(), 1):
        pass


@pytest.mark.slow
@needs_ray
def test_a_sweep_with_two_workers(tmp_path: Path) -> None:
    """A rate that diverges and a worker that dies are reported with their reasons, and the others count."""
    sweep = dataclasses.replace(TWO, vary=("ppo.optimizer.lr=1e-3,1e30",), metric="trained_total_reward")
    trials = task_trials("reach", "i2rt_yam", tmp_path, TINY, SHORT, sweep)
    dying = Trial("dying", {"ppo.optimizer.lr": "death"}, 0, partial(os._exit, 1))
    swept = run_sweep([*trials, dying], tmp_path, sweep)
    assert [row["failed"] for row in swept.settings] == [0, 2, 1] and swept.settings[0]["seeds"] == 2
    reasons = dict(swept.failures)
    assert "diverged" in reasons["0002_seed0"] and "TrainingError" in reasons["0003_seed1"]
    assert "its process ended (WorkerCrashedError" in reasons["dying"]
    results = json.loads((tmp_path / "sweep.json").read_text())
    assert results["figures"]["trials"] == 5 and results["figures"]["failed"] == 3
    first = results["trials"][0]
    assert first["figures"] == json.loads((tmp_path / "trials" / first["name"] / "policy.json").read_text())["figures"]
    page = (tmp_path / "sweep.html").read_text()
    assert "ppo.optimizer.lr=1e-3" in page and "diverged" in page
    # Again: what was trained is left as it is.
    written = (tmp_path / "trials" / first["name"] / "policy.safetensors").stat().st_mtime_ns
    again = run_sweep(trials[:2], tmp_path, sweep)
    assert again.settings[0]["mean"] == swept.settings[0]["mean"]
    assert (tmp_path / "trials" / first["name"] / "policy.safetensors").stat().st_mtime_ns == written


class Broken(ReachTask):
    """Its second step fails as a simulation does, or takes its process along."""

    def step(self, action: Any) -> Any:
        if self.steps == 5 and self.num_envs == 5:
            os._exit(1)
        return super().step(action)


def small_task(envs: int, index: int) -> ReachTask:
    if envs == 0:
        raise InputError("no such task")
    return Broken(envs, seed=index)


def make_ppo() -> PPO:
    torch.manual_seed(0)
    return PPO(ActorCritic(2, 3, 1, NetConfig((8,), (8,))), PPOConfig(steps=6, epochs=2, minibatches=2))


@pytest.mark.slow
@needs_ray
def test_two_workers_teach_one_policy_and_are_resumed_exactly(stage: Stage, tmp_path: Path) -> None:
    cpu, machines = torch.device("cpu"), ClusterConfig()
    with pytest.raises(InputError, match="has 2 CPUs, 4 workers need 4"), cluster(machines, 2, 4):
        pass
    with cluster(machines, 4) as ray:

        def runner(envs: int = 8) -> SceneRunner:
            return SceneRunner(ray, partial(small_task, envs), ["one", "two"], make_ppo(), cpu, machines, 0)

        whole = runner()
        whole.train(lambda p: p.update >= 2, lambda p: None)
        assert whole.env_steps == 2 * 6 * 16
        obs = whole._rollout.obs["policy"]
        assert obs.shape == (6, 16, 2) and not torch.equal(obs[:, :8], obs[:, 8:])
        state = {name: tensor.clone() for name, tensor in whole.snapshot().items()}
        half = {name: tensor.clone() for name, tensor in whole.ppo.net.state_dict().items()}
        first = whole.collect()
        assert whole._rollout.version.unique().tolist() == [whole.ppo.version]
        expected = whole._rollout.obs["policy"].clone()
        again = runner()
        again.ppo.net.load_state_dict(half)
        assert again.restore(state)
        second = again.collect()
        assert first == second and torch.equal(again._rollout.obs["policy"], expected)
        whole.close()
        again.close()
        dying = runner(envs=5)
        with pytest.raises(TrainingError, match=r"the worker of one: its process ended .*what was saved stands"):
            dying.train(lambda p: False, lambda p: None)
        with pytest.raises(InputError, match="the worker of one: no such task"):
            runner(envs=0)

    other = flat_stage(stage.robot, squat_motion(stage.robot, 40), tmp_path / "other")
    config = TrainConfig(updates=1, envs=4, eval_envs=2, threads=1, ppo=PPO_TINY)
    made = train([stage.path, other.path], tmp_path / "policy", config)
    assert made.figures["env_steps"] == 8 * 4 and {"start_success_rate_0", "trained_success_rate_1"} <= set(
        made.figures
    )
    mean = 0.5 * (made.figures["start_body_error_m_0"] + made.figures["start_body_error_m_1"])
    assert made.figures["start_body_error_m"] == pytest.approx(mean)
    load_checkpoint(made.path / "policy.safetensors")


def test_stages_that_do_not_go_together_are_refused(stage: Stage, tmp_path: Path) -> None:
    config = TrainConfig(updates=1, envs=4)
    with pytest.raises(InputError, match=r"config\.actors is 1, expected 0 or a multiple of the 2 stages"):
        train([stage.path, stage.path], tmp_path / "policy", dataclasses.replace(config, actors=1))
    with pytest.raises(InputError, match=r"config\.envs is 5, expected a multiple of the 2 workers"):
        train([stage.path, stage.path], tmp_path / "policy", dataclasses.replace(config, envs=5))
    with pytest.raises(InputError, match="no stage is given"):
        train([], tmp_path / "policy", config)
