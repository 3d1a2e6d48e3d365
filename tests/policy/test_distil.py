"""A teacher that sees what no robot can, and the student that is made of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bodydouble.cli import main
from bodydouble.errors import InputError
from policy.checkpoint import load_policy, save_checkpoint
from policy.distil import DistilConfig, distil_task
from policy.export_task import export_task
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig
from policy.rl.imitation import ImitationConfig
from policy.rl.ppo import PPOConfig
from policy.train_task import TaskTrainConfig, train_task
from robot.policy_file import PolicyFile
from sim.tasks.reach.config import ReachConfig

SHORT = ReachConfig(episode_s=0.4)
TRAIN = TaskTrainConfig(
    updates=2, envs=6, eval_envs=4, threads=1, net=NetConfig((16,), (16,)), privileged=True,
    ppo=PPOConfig(steps=8, epochs=2, minibatches=2, target_kl=0.01, optimizer=AdamConfig(lr=1e-3)),
)  # fmt: skip
DISTIL = DistilConfig(
    envs=16, threads=1, eval_envs=4, net=NetConfig((32,), (8,)),
    imitation=ImitationConfig(rounds=4, steps=16, epochs=30, minibatches=4, optimizer=AdamConfig(lr=3e-3)),
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose actions are worth learning: its last layer is stirred."""
    out = train_task("reach", "i2rt_yam", tmp_path_factory.mktemp("teacher") / "policy", TRAIN, SHORT).path
    net, info, _ = load_policy(out / "policy.safetensors")
    torch.manual_seed(0)
    torch.nn.init.normal_(net.actor.net[-1].weight, std=0.2)
    save_checkpoint(out / "policy.safetensors", net, info)
    return out


def test_a_teacher_reads_the_critics_observation_and_is_not_exported(teacher: Path, tmp_path: Path) -> None:
    net, info, _ = load_policy(teacher / "policy.safetensors")
    assert isinstance(net, ActorCritic)
    assert info.policy_size == info.critic_size == net.actor.norm.mean.shape[0] and info.extra["reads"] == "critic"
    with pytest.raises(InputError, match="is a teacher that sees what no robot can; distil it first"):
        export_task(teacher, tmp_path / "policy.onnx")
    start = dataclasses.replace(TRAIN, warm_start=str(teacher / "policy.safetensors"), updates=1)
    train_task("reach", "i2rt_yam", tmp_path / "more", start, SHORT)
    with pytest.raises(InputError, match="is a teacher"):
        train_task("reach", "i2rt_yam", tmp_path / "no", dataclasses.replace(start, privileged=False), SHORT)


def test_the_student_does_what_the_teacher_does_and_runs_on_a_robot(teacher: Path, tmp_path: Path) -> None:
    made = distil_task("reach", "i2rt_yam", teacher, tmp_path / "student", DISTIL, SHORT)
    first = (made.path / "log.jsonl").read_text().splitlines()[0]
    assert made.figures["disagreement"] < 0.5 * float(first.split('"disagreement": ')[1].split(",")[0])
    assert {"start_success_rate", "trained_success_rate"} <= set(made.figures)
    exported = export_task(made.path, tmp_path / "policy.onnx")
    assert exported.figures["onnx_max_abs_diff"] <= 1e-5
    assert [term.name for term in PolicyFile(exported.path).contract.observation] == [
        "joint_pos", "joint_vel", "last_action", "command",
    ]  # fmt: skip
    before = (made.path / "policy.safetensors").stat().st_mtime_ns
    assert distil_task("reach", "i2rt_yam", teacher, made.path, DISTIL, SHORT).figures == made.figures
    assert (made.path / "policy.safetensors").stat().st_mtime_ns == before
    # A student may teach another, of other sizes.
    again = dataclasses.replace(DISTIL, imitation=dataclasses.replace(DISTIL.imitation, rounds=1, epochs=1))
    distil_task("reach", "i2rt_yam", made.path / "policy.safetensors", tmp_path / "second", again, SHORT)


def test_by_command(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--robot", "i2rt_yam", "--teacher", str(teacher), "--out", str(tmp_path / "student")]
    small = ["--setup.episode-s", "0.4", "--config.envs", "8", "--config.eval-envs", "2", "--config.threads", "1"]
    rounds = ["--config.imitation.rounds", "1", "--config.imitation.steps", "8", "--config.imitation.epochs", "2"]
    assert main(["distill", "--task", "reach", *common, *small, *rounds]) == 0
    assert "success" in capsys.readouterr().out
    assert main(["distill", *common]) == 2
    assert "distill needs --task" in capsys.readouterr().err


def test_teachers_of_other_tasks_are_refused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a policy for task reach and robot i2rt_yam, expected pick"):
        distil_task("pick", "i2rt_yam", teacher, tmp_path / "student", DISTIL)
    with pytest.raises(InputError, match=r"config\.envs is 0"):
        DistilConfig(envs=0)
