"""The gate for a task's policy: the ONNX file, run as a robot runs it, in whole episodes; how often it succeeds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import versions, write_json
from bodydouble.contract import PolicyContract
from bodydouble.errors import ContractError, InputError
from robot.policy_file import PolicyFile
from sim.backend.cpu_batch import CpuBatch
from sim.env.task import Task
from sim.env.task_env import TaskEnv
from sim.env.task_evaluate import evaluate_task
from sim.gate.wilson import wilson_interval
from sim.tasks.registry import make_task


@dataclass(frozen=True)
class TaskGateConfig:
    """How a task's policy is judged."""

    episodes: int = 64
    """Episodes, without and again with the task's randomisation."""
    seed: int = 0
    """Seed of both."""
    threads: int = 0
    """Threads of the simulation; 0 takes every core."""
    min_success: float = 0.8
    """Least success rate without randomisation for the gate to pass."""


@dataclass(frozen=True)
class TaskReport:
    """What the gate found."""

    policy: str
    """Name of the policy's file."""
    sha256: str
    """Its SHA-256."""
    task: str
    """Name of the task."""
    robot: str
    """Name of the robot."""
    config: TaskGateConfig
    """How it was judged."""
    figures: dict[str, float]
    """Success rates with their 95 % intervals, and means of the task's measures, by name."""
    failures: dict[str, int]
    """Episodes that ended in a termination, by its name, with randomisation."""

    @property
    def passed(self) -> bool:
        """Whether the success rate without randomisation is high enough."""
        return self.figures["plain_success_rate"] >= self.config.min_success

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        write_json(path, {**dataclasses.asdict(self), "passed": self.passed, "versions": versions()})

    def __str__(self) -> str:
        """One line with the outcome."""
        parts = [
            f"{kind} {self.figures[f'{kind}_success_rate']:.2f} "
            f"[{self.figures[f'{kind}_success_low']:.2f}, {self.figures[f'{kind}_success_high']:.2f}]"
            for kind in ("plain", "randomised")
        ]
        verdict = "passes" if self.passed else "does not pass"
        return f"{self.policy}: {self.task} with {self.robot} {verdict}; success {', '.join(parts)}"


def verify_task(policy: Path, task: str, config: TaskGateConfig | None = None, setup: Any = None) -> TaskReport:
    """Run a policy's file at a task.

    Args:
        policy: The ONNX file.
        task: Name of the task.
        config: How to judge.
        setup: Settings of the task; its defaults if None.

    Raises:
        ContractError: The file is no policy for this task.
        InputError: The task is unknown, or a setting cannot be used.
        PhysicsError: The physics diverged.
    """
    config = config or TaskGateConfig()
    if config.episodes < 1:
        raise InputError(f"config.episodes is {config.episodes}, expected at least 1")
    file = PolicyFile(policy)
    made = make_task(task, file.contract.robot, setup)
    check_contract(policy, file.contract, made)
    figures: dict[str, float] = {}
    failures: Counter[str] = Counter()
    for kind in ("plain", "randomised"):
        varied = dataclasses.replace(
            made,  # type: ignore[type-var]
            config=dataclasses.replace(made.config, randomise=kind == "randomised"),  # type: ignore[attr-defined]
        )
        env = TaskEnv(CpuBatch(made.model, config.episodes, config.seed, config.threads), varied)
        memory = np.tile(file.empty_memory(), (config.episodes, 1))

        def act(obs: np.ndarray, memory: np.ndarray = memory) -> np.ndarray:
            # One robot at a time, as on the robot: what is judged is the file, not the network.
            actions = []
            for row in range(len(obs)):
                action, memory[row] = file.step(obs[row], memory[row])
                actions.append(action)
            return np.stack(actions)

        result = evaluate_task(env, act)
        low, high = wilson_interval(int(result.succeeded.sum()), config.episodes)
        figures |= {f"{kind}_{name}": value for name, value in result.figures.items()}
        figures |= {f"{kind}_success_low": low, f"{kind}_success_high": high}
        failures = Counter(env.failures[code - 1] for code in result.failure.tolist() if code)
    return TaskReport(policy.name, file.sha256, task, made.robot.name, config, figures, dict(failures))


def check_contract(path: Path, contract: PolicyContract, task: Task) -> None:
    """Raise ContractError where a policy's contract is not of a task."""
    robot = task.robot
    if contract.follows_reference or contract.action_mode != "residual_default":
        raise ContractError(f"{path}: follows a reference, the task {task.name!r} has none; verify it on its stage")
    expected = {
        "joint_names": robot.joint_names,
        "default_joint_pos": robot.default_joint_pos,
        "action_scale": robot.action_scale,
        "observation": task.observation.terms,
        "command_names": task.command.names,
        "control_hz": task.control_hz,
        "physics_dt": float(task.model.opt.timestep),
    }
    for name, value in expected.items():
        if getattr(contract, name) != value:
            raise ContractError(
                f"{path}: its {name} is not that of the task {task.name!r} with robot {robot.name}; export it for this "
                "task, or give the settings it was trained with"
            )
