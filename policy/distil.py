"""Distillation for a task: a student that sees only what a robot has learns what a teacher does (DAgger)."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bodydouble.artifacts import atomic_dir, inputs_hash, is_current, machine_info, provenance, read_json, write_json
from bodydouble.errors import InputError
from policy.checkpoint import CheckpointInfo, load_policy, save_checkpoint
from policy.nets.actor_critic import NetConfig
from policy.nets.policy_net import PolicyNet
from policy.optim.registry import AdamConfig
from policy.rl.imitation import Imitation, ImitationConfig, Teacher
from policy.rl.runner import make_net
from policy.threads import use_threads
from policy.train_task import TrainedTask, check_task, judge_on
from policy.training_run import CHECKPOINT_FILE, LOG_FILE, MANIFEST_FILE
from sim.backend.cpu_batch import CpuBatch
from sim.env.task import Task
from sim.env.task_env import TaskEnv
from sim.tasks.registry import make_task, task_config


@dataclass(frozen=True)
class DistilConfig:
    """How a student is made of a teacher."""

    envs: int = 256
    """Environments."""
    threads: int = 0
    """Threads of the simulation; 0 takes every core."""
    seed: int = 0
    """Seed."""
    eval_envs: int = 128
    """Episodes of each evaluation, with the task's randomisation."""
    net: NetConfig = field(default_factory=lambda: NetConfig((256, 128), (256, 128)))
    """Sizes of the student's networks."""
    imitation: ImitationConfig = field(default_factory=lambda: ImitationConfig(optimizer=AdamConfig(lr=1e-3)))
    """Rounds and fitting; one round is behaviour cloning."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One of them cannot work.
        """
        for name in ("envs", "eval_envs"):
            if getattr(self, name) < 1:
                raise InputError(f"config.{name} is {getattr(self, name)}, expected at least 1")


def distil_task(
    name: str, robot: str, teacher: Path, out: Path, config: DistilConfig | None = None, setup: Any = None
) -> TrainedTask:
    """Make a student of a teacher and write it as a training does; one already made of the same inputs is kept.

    Teacher and student are both judged, with the same seeds, under the task's randomisation: "start_" figures are the
    teacher's, "trained_" ones the student's.

    Args:
        name: A task of sim.tasks.registry.
        robot: A robot's registered name.
        teacher: Folder or checkpoint of a training for the task, also one with `config.privileged`.
        out: Folder for policy.safetensors, policy.json and log.jsonl.
        config: Settings.
        setup: Settings of the task.

    Raises:
        InputError: Task, robot, teacher or settings cannot be used.
        TrainingError: The imitation diverged, or the checkpoint could not be written.
        PhysicsError: The simulation diverged.
    """
    config = config or DistilConfig()
    setup = task_config(name)() if setup is None else setup
    task = make_task(name, robot, setup)
    checkpoint = teacher / CHECKPOINT_FILE if teacher.is_dir() else teacher
    master, info, _ = load_policy(checkpoint)
    settings = {"task": name, "robot": robot, "setup": dataclasses.asdict(setup), "distil": dataclasses.asdict(config)}
    inputs = {"teacher": checkpoint}
    if is_current(out / MANIFEST_FILE, inputs_hash(settings, inputs)):
        return TrainedTask(out, read_json(out / MANIFEST_FILE)["figures"])
    torch.manual_seed(config.seed)
    threads = use_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    env = TaskEnv(CpuBatch(task.model, config.envs, config.seed, threads), task, out / "nan_state.npz", spread=True)
    first = env.reset()
    teach = _teacher(checkpoint, master, info, task, first["critic"].shape[1])
    cpu = torch.device("cpu")
    student = make_net(first, env.num_joints, config.net, cpu, env.spec.layout)
    lines: list[str] = []
    begun = time.monotonic()
    Imitation(env, student, teach, config.imitation, cpu).train(lambda stats: lines.append(json.dumps(stats)))
    seconds = time.monotonic() - begun
    env_steps = config.imitation.rounds * config.imitation.steps * config.envs
    judged = {
        kind: judge_on(
            TaskEnv(CpuBatch(task.model, config.eval_envs, config.seed + 1, threads), task), net, privileged=privileged
        ).figures
        for kind, net, privileged in (("start", master, _reads(info) == "critic"), ("trained", student, False))
    }
    last = json.loads(lines[-1])
    figures = {
        "env_steps": float(env_steps),
        "env_steps_per_s": env_steps / seconds,
        "train_s": seconds,
        "disagreement": last["disagreement"],
        "fit": last["fit"],
        **{f"{kind}_{figure}": value for kind, found in judged.items() for figure, value in found.items()},
    }
    manifest: dict[str, Any] = {
        "provenance": provenance(settings, inputs),
        "figures": figures,
        "task": name,
        "robot": robot,
        "setup": dataclasses.asdict(setup),
        "machine": machine_info(),
        "seeds": [config.seed],
    }
    made = CheckpointInfo(
        robot=task.robot.name, joint_names=task.robot.joint_names, policy_size=env.spec.size,
        critic_size=student.critic_norm.mean.shape[0], net=student.config, env_steps=env_steps,
        updates=0, extra={"task": name},
    )  # fmt: skip
    with atomic_dir(out) as folder:
        save_checkpoint(folder / CHECKPOINT_FILE, student, made)
        (folder / LOG_FILE).write_text("".join(f"{line}\n" for line in lines))
        write_json(folder / MANIFEST_FILE, manifest)
    return TrainedTask(out, figures)


def _reads(info: CheckpointInfo) -> str:
    """Return which observation a policy reads: "policy", or "critic" of a teacher."""
    return info.extra.get("reads", "policy")


def _teacher(path: Path, net: PolicyNet, info: CheckpointInfo, task: Task, critic_size: int) -> Teacher:
    reads = _reads(info)
    check_task(path, info, task, task.name, critic_size if reads == "critic" else None)
    if net.config.memory:
        raise InputError(f"{path}: has a memory; a teacher is asked for single steps, take one without")
    net.eval()

    @torch.no_grad()
    def teach(obs: dict[str, torch.Tensor]) -> torch.Tensor:
        return net.actor(obs[reads])

    return teach
