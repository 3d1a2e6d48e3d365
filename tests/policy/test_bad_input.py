"""What a training cannot use ends it with a message, and what it leaves behind opens with a command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bodydouble.cli import main
from bodydouble.errors import ContractError, InputError, TrainingError
from policy.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from policy.export import export
from policy.interface import ENTRY, check_interface, interface
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Runner
from policy.shipped import shipped_checkpoint
from policy.train import train
from policy.training_run import unfinished
from sim.stage.stage import Stage
from tests.policy.rl.reach_task import ReachTask
from tests.policy.test_train import TINY


def changed(folder: Path, **fields: Any) -> Path:
    """The shipped checkpoint with another header, and a network of the sizes that it names."""
    _, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    info = dataclasses.replace(info, net=NetConfig((8,), (8,)), **fields)
    net = ActorCritic(info.policy_size, info.critic_size, len(info.joint_names), NetConfig((8,), (8,)))
    save_checkpoint(folder / "other.safetensors", net, info)
    return folder / "other.safetensors"


def test_a_checkpoint_of_another_observation_size_is_refused(stage: Stage, tmp_path: Path) -> None:
    start = changed(tmp_path, policy_size=100)
    with pytest.raises(InputError, match=r"reads 100 observation values, this version gives 277"):
        train(stage.path, tmp_path / "policy", dataclasses.replace(TINY, warm_start=str(start)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((5, 3), "gives 2 values for the policy, the network reads 5"),
        ((2, 4), "gives 3 values for the critic, the net"),
    ],
)
def test_a_task_of_another_observation_size_is_refused(sizes: tuple[int, int], message: str) -> None:
    ppo = PPO(ActorCritic(*sizes, 1, NetConfig((4,), (4,))), PPOConfig(steps=2))
    with pytest.raises(InputError, match=message):
        Runner(ReachTask(4), ppo, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_hz": 100.0}, "its control rate in Hz is 100.0, the stage has 50.0"),
        ({"kp": [1.0]}, "its kp are 1, the stage has 29"),
        ({"reference_offsets": [0, 1, 2]}, "its reference offsets are 3"),
        ({"observation": []}, "its observation terms are 0"),
    ],
)
def test_a_checkpoint_of_another_contract_is_refused(
    change: dict[str, Any], message: str, stage: Stage, tmp_path: Path
) -> None:
    other = changed(tmp_path, extra={ENTRY: {**interface(stage), **change}})
    with pytest.raises(ContractError, match=f"was trained for another contract: {message}"):
        train(stage.path, tmp_path / "policy", dataclasses.replace(TINY, warm_start=str(other)))
    with pytest.raises(ContractError, match="another contract"):
        export(other, stage.path, tmp_path / "policy.onnx")
    assert not (tmp_path / "policy.onnx").exists()


def test_another_term_is_named_by_its_place(stage: Stage, tmp_path: Path) -> None:
    saved = interface(stage)
    saved["action_scale"] = [*saved["action_scale"][:3], 9.0, *saved["action_scale"][4:]]
    info = CheckpointInfo("unitree_g1", (), 1, 1, NetConfig(), 0, 0, {ENTRY: saved})
    with pytest.raises(ContractError, match=r"its action scale at place 3 is 9\.0, the stage has 0\.\d+"):
        check_interface(tmp_path, info, stage)


def test_a_rate_that_diverges_leaves_what_a_command_opens(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With checkpoints after every update: none is written after the network is ruined."""
    ppo = dataclasses.replace(TINY.ppo, target_kl=0.0, optimizer=AdamConfig(lr=1e30))
    out = tmp_path / "policy"
    with pytest.raises(TrainingError, match=r"not finite; lower optimizer\.lr \(now 1e\+30\).*bodydouble view"):
        train(stage.path, out, dataclasses.replace(TINY, eval_envs=1, ppo=ppo, checkpoint_every=1))
    assert not (unfinished(out) / "training.safetensors").exists()
    capsys.readouterr()
    assert main(["view", str(out / "nan_rollout.safetensors")]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert int(rows["net.actor.net.0.weight"][4]) > 0, "the network is shown to be ruined"
    assert rows["rollout.reward"][1:3] == ["(8,", "6)"] and rows["rollout.reward"][4] == "0"


def test_a_gradient_that_is_not_finite_is_noticed_though_the_loss_is() -> None:
    """Adam would make a NaN of every parameter, which the next rollout alone would show, after the checkpoint."""
    torch.manual_seed(0)
    ppo = PPO(ActorCritic(2, 3, 1, NetConfig((4,), (4,))), PPOConfig(steps=4, epochs=1, minibatches=1, target_kl=0.0))
    runner = Runner(ReachTask(4), ppo, torch.device("cpu"))
    runner.collect()
    ppo.net.critic_net[0].weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="grad_norm"):
        ppo.update(runner._rollout)


def test_view_shows_a_checkpoint_and_refuses_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.tensor([1.0, float("nan")])}, path, metadata={"from": "a test"})
    assert main(["view", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "(1,)" in shown and "from: a test" in shown
    path.write_bytes(b"no checkpoint")
    assert main(["view", str(path)]) == 2
    assert "cannot be read as a checkpoint" in capsys.readouterr().err
