"""What Gymnasium's MuJoCo tasks have in common, on mujoco.batch: many environments, no loop over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import mujoco.batch
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from bodydouble.errors import InputError, PhysicsError
from sim.backend.lean import lean_model, stop_clock
from sim.divergence import LARGEST_STATE, without_autoreset

_RESET_NOISE = 0.1
_ALL = slice(None)


def gymnasium_model(file: str, accelerometer_on: str = "") -> mujoco.MjModel:
    """Return a model of Gymnasium's by its file name.

    Args:
        file: Name of the XML file among Gymnasium's assets.
        accelerometer_on: Body that gets an accelerometer, which makes every step compute the contact forces.
    """
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    spec = mujoco.MjSpec.from_file(str(path))
    if accelerometer_on:
        spec.body(accelerometer_on).add_site(name="accelerometer")
        spec.add_sensor(
            name="accelerometer",
            type=mujoco.mjtSensor.mjSENS_ACCELEROMETER,
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname="accelerometer",
        )
    return without_autoreset(spec.compile())


class GymnasiumTask(gymnasium.vector.VectorEnv):
    """N environments of a task; a finished one starts anew in the same step.

    The observation at the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    A task says what it observes, what it rewards and when it failed.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - gymnasium's own form
    frame_skip = 5
    """Physics steps of a control step."""
    episode_steps = 1000
    """Control steps after which an episode is truncated."""

    def __init__(self, model: mujoco.MjModel, num_envs: int, threads: int, dump: Path) -> None:
        """Make the simulations.

        Args:
            model: The compiled model.
            num_envs: Number of environments N, at least 1.
            threads: Threads of the simulation; 0 takes every core.
            dump: File that receives the state when the physics diverges.

        Raises:
            InputError: The number of environments is not positive.
        """
        if num_envs < 1:
            raise InputError(f"num_envs is {num_envs}, expected 1 or more")
        self.model, self.num_envs, self._dump = model, num_envs, dump
        stop_clock()
        # Sensors are there only where they make the engine compute forces.
        self._batch = mujoco.batch.Batch(lean_model(model, keep_sensors=model.nsensor > 0), num_envs, threads)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._warmstart = self._batch.bind("qacc_warmstart")
        self._bind()
        self._age = np.zeros(num_envs, np.int64)
        self._rng = np.random.default_rng()
        self._dt = self.frame_skip * model.opt.timestep
        limit = model.actuator_ctrlrange.astype(np.float32)
        self.single_action_space = gymnasium.spaces.Box(limit[:, 0], limit[:, 1], dtype=np.float32)
        size = self._observe(_ALL).shape[1]
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def _bind(self) -> None:
        """Bind further fields of the simulation."""

    def _observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return the observations (M, P) of some environments, float32, an array of its own."""
        raise NotImplementedError

    def _place(self) -> np.ndarray:
        """Return what the reward compares before and after a step (N,): how far each one has come, m."""
        raise NotImplementedError

    def _judge(self, obs: np.ndarray, forward: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rewards (N,) and whether each one failed (N,).

        Args:
            obs: Observations (N, P) after the step.
            forward: Forward speeds (N,), m/s.
            actions: Controls (N, A).
        """
        raise NotImplementedError

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return positions (count, nq) and velocities (count, nv) at the start of episodes."""
        qpos = self.model.qpos0 + self._rng.uniform(-_RESET_NOISE, _RESET_NOISE, (count, self.model.nq))
        return qpos, _RESET_NOISE * self._rng.standard_normal((count, self.model.nv))

    def _start(self, rows: np.ndarray) -> None:
        """Give the environments (M,) a new episode."""
        self._qpos[rows], self._qvel[rows] = self._draw(len(rows))
        self._warmstart[rows] = 0.0
        self._ctrl[rows] = 0.0
        self._age[rows] = 0
        self._batch.forward(rows)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start every environment anew; a seed gives the same episodes again."""
        del options
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._start(np.arange(self.num_envs))
        return self._observe(_ALL), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every environment by one control step.

        Args:
            actions: Controls (N, A).

        Raises:
            PhysicsError: The physics diverged; the message names the file with the state.
        """
        actions = np.asarray(actions)
        before = self._place()
        self._ctrl[:] = actions
        self._batch.step(nstep=self.frame_skip)
        self._age += 1
        self._guard()
        obs = self._observe(_ALL)
        reward, terminated = self._judge(obs, (self._place() - before) / self._dt, actions)
        truncated = ~terminated & (self._age >= self.episode_steps)
        done = terminated | truncated
        info: dict[str, Any] = {}
        if done.any():
            info = {"final_obs": obs.copy(), "_final_obs": done}
            rows = np.flatnonzero(done)
            self._start(rows)
            obs[rows] = self._observe(rows)
        return obs, reward, terminated, truncated, info

    def _guard(self) -> None:
        # NaN compares as false, so it is bad too.
        sound = (np.abs(self._qpos) < LARGEST_STATE).all(axis=1) & (np.abs(self._qvel) < LARGEST_STATE).all(axis=1)
        if sound.all():
            return
        np.savez_compressed(self._dump, qpos=self._qpos, qvel=self._qvel, target=np.asarray(self._ctrl), bad=~sound)
        raise PhysicsError(
            f"physics diverged in {int((~sound).sum())} of {self.num_envs} simulations; "
            f"the state is in {self._dump}, look at it with `bodydouble view {self._dump}`"
        )
