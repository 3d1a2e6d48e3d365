"""TrackingGymEnv and TrackingVectorEnv: the tracking task as Gymnasium environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TrackingConfig
from sim.tasks.tracking.terminations import TERMINATIONS

ACTION_BOUND = 20.0
"""Bound on actions; the observation clips the last action there too."""


class TrackingVectorEnv(gymnasium.vector.VectorEnv):
    """N robots on a stage that follow its reference; a finished environment starts anew in the same step.

    The observation at the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - gymnasium's own form

    def __init__(
        self, stage: Stage | Path | str, num_envs: int, config: TrackingConfig | None = None, threads: int = 0
    ) -> None:
        """Load the stage.

        Args:
            stage: The stage, or its folder.
            num_envs: Number of environments N.
            config: The task.
            threads: Threads of the simulation; 0 takes every core.

        Raises:
            InputError: The stage cannot be used for whole-body tracking.
        """
        self.stage = stage if isinstance(stage, Stage) else Stage.load(stage)
        self.robot = TrackedRobot.from_spec(self.stage.robot)
        self.num_envs = num_envs
        self._config = config or TrackingConfig(control_hz=self.stage.control_hz)
        self._threads = threads
        self._model = self.stage.compile(visuals=False)
        self._seeds = np.random.default_rng()
        self._env = self._make(int(self._seeds.integers(2**31)))
        joints = len(self.robot.joint_names)
        bound = np.concatenate([np.full(term.size * term.history, term.clip) for term in self._env.spec.terms])
        self.single_observation_space = gymnasium.spaces.Box(*_bounds(bound), dtype=np.float32)
        self.single_action_space = gymnasium.spaces.Box(*_bounds(np.full(joints, ACTION_BOUND)), dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def _make(self, seed: int) -> TrackingEnv:
        backend = CpuBatch(self._model, self.num_envs, seed, self._threads)
        return TrackingEnv(backend, self.robot, self.stage.motions, self._config)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every environment anew; a seed gives the same episodes again."""
        del options
        if seed is not None:
            first = seed[0] if isinstance(seed, list | tuple | np.ndarray) else seed
            self._env = self._make(int(first))
        return self._env.reset()["policy"], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every environment by one control step."""
        result = self._env.step(np.asarray(actions, dtype=np.float32))
        done = result.terminated | result.truncated
        info: dict[str, Any] = {"body_error_m": result.body_error, "failure": result.failure}
        if done.any():
            info |= {"final_obs": result.final_obs["policy"], "_final_obs": done}
        return result.obs["policy"], result.reward, result.terminated, result.truncated, info


class TrackingGymEnv(gymnasium.Env):
    """One robot on a stage that follows its reference."""

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's own form

    def __init__(self, stage: Stage | Path | str, config: TrackingConfig | None = None) -> None:
        """Load the stage.

        Args:
            stage: The stage, or its folder.
            config: The task.

        Raises:
            InputError: The stage cannot be used for whole-body tracking.
        """
        self._vector = TrackingVectorEnv(stage, 1, config, threads=1)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a new episode; a seed gives the same episode again."""
        super().reset(seed=seed)
        obs, info = self._vector.reset(seed=seed, options=options)
        return obs[0].copy(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step; at the end of an episode the last true observation is returned."""
        obs, reward, terminated, truncated, info = self._vector.step(np.asarray(action)[None])
        ended = bool(terminated[0] or truncated[0])
        last = info["final_obs"][0] if ended else obs[0]
        failure = int(info["failure"][0])
        said = {"body_error_m": float(info["body_error_m"][0])}
        if failure:
            said["failure"] = list(TERMINATIONS)[failure - 1]  # type: ignore[assignment]
        return last.copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), said


def _bounds(bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (-bound).astype(np.float32), bound.astype(np.float32)
