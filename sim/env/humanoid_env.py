"""HumanoidVectorEnv: Gymnasium's Humanoid-v5 task on mujoco.batch, without a Python loop over environments."""

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

FRAME_SKIP = 5
"""Physics steps of a control step."""
EPISODE_STEPS = 1000
"""Control steps after which an episode is truncated."""
OBSERVED = ("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
"""Fields of the simulation that the observation is made of, in its order."""
_SKIPPED = {"qpos": 2, "qvel": 0, "cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}
_HEALTHY_Z = (1.0, 2.0)
_RESET_NOISE = 0.01


def humanoid_model() -> mujoco.MjModel:
    """Return Gymnasium's humanoid with an accelerometer, which makes every step compute the contact forces."""
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "humanoid.xml"
    spec = mujoco.MjSpec.from_file(str(path))
    spec.body("torso").add_site(name="accelerometer")
    spec.add_sensor(
        name="accelerometer",
        type=mujoco.mjtSensor.mjSENS_ACCELEROMETER,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname="accelerometer",
    )
    return without_autoreset(spec.compile())


class HumanoidVectorEnv(gymnasium.vector.VectorEnv):
    """N humanoids that are to walk; a finished one starts anew in the same step.

    Observation (N, 348), reward, termination and reset are those of Humanoid-v5; only the contact forces are taken at
    the first stage of the last Runge-Kutta step, where Gymnasium reads those of its last stage. The observation at
    the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 - gymnasium's own form

    def __init__(self, num_envs: int, threads: int = 0, dump: Path = Path("nan_state.npz")) -> None:
        """Make the simulations.

        Args:
            num_envs: Number of environments N, at least 1.
            threads: Threads of the simulation; 0 takes every core.
            dump: File that receives the state when the physics diverges.

        Raises:
            InputError: The number of environments is not positive.
        """
        if num_envs < 1:
            raise InputError(f"num_envs is {num_envs}, expected 1 or more")
        self.num_envs, self._dump = num_envs, dump
        self.model = humanoid_model()
        stop_clock()
        self._batch = mujoco.batch.Batch(lean_model(self.model, keep_sensors=True), num_envs, threads)
        self._fields = {name: self._batch.bind(name) for name in OBSERVED}
        self._ctrl, self._com = self._batch.bind("ctrl"), self._batch.bind("subtree_com")
        self._warmstart = self._batch.bind("qacc_warmstart")
        starts = [_SKIPPED[name] * self._per_row(name) for name in OBSERVED]
        widths = [int(np.prod(self._fields[name].shape[1:])) - s for name, s in zip(OBSERVED, starts, strict=True)]
        ends = np.cumsum(widths)
        self._parts = list(zip(OBSERVED, starts, ends - widths, ends, strict=True))
        self._obs = np.zeros((num_envs, int(ends[-1])), np.float32)
        self._age = np.zeros(num_envs, np.int64)
        self._rng = np.random.default_rng()
        limit = self.model.actuator_ctrlrange.astype(np.float32)
        self.single_action_space = gymnasium.spaces.Box(limit[:, 0], limit[:, 1], dtype=np.float32)
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (int(ends[-1]),), np.float32)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def _per_row(self, name: str) -> int:
        shape = self._fields[name].shape
        return int(np.prod(shape[2:]))

    def _observe(self, rows: np.ndarray | slice = slice(None)) -> None:
        for name, start, low, high in self._parts:
            field = self._fields[name]
            self._obs[rows, low:high] = field[rows].reshape(-1, high - low + start)[:, start:]

    def _start(self, rows: np.ndarray) -> None:
        """Give the environments (M,) a new episode."""
        count, model = len(rows), self.model
        noise = self._rng.uniform(-_RESET_NOISE, _RESET_NOISE, (count, model.nq + model.nv))
        self._fields["qpos"][rows] = model.qpos0 + noise[:, : model.nq]
        self._fields["qvel"][rows] = noise[:, model.nq :]
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
        self._observe()
        return self._obs.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every environment by one control step.

        Args:
            actions: Torques' controls (N, 17).

        Raises:
            PhysicsError: The physics diverged; the message names the file with the state.
        """
        actions = np.asarray(actions)
        before = self._com[:, 0, 0].copy()
        self._ctrl[:] = actions
        self._batch.step(nstep=FRAME_SKIP)
        self._age += 1
        self._observe()
        self._guard()
        forward = (self._com[:, 0, 0] - before) / (FRAME_SKIP * self.model.opt.timestep)
        height = self._fields["qpos"][:, 2]
        healthy = (height > _HEALTHY_Z[0]) & (height < _HEALTHY_Z[1])
        forces = self._obs[:, self._parts[-1][2] :]
        contact = np.minimum(5e-7 * np.einsum("ij,ij->i", forces, forces), 10.0)
        control = 0.1 * np.einsum("ij,ij->i", actions, actions)
        reward = 5.0 * healthy + 1.25 * forward - control - contact
        terminated = ~healthy
        truncated = ~terminated & (self._age >= EPISODE_STEPS)
        done = terminated | truncated
        info: dict[str, Any] = {}
        if done.any():
            info = {"final_obs": self._obs.copy(), "_final_obs": done}
            rows = np.flatnonzero(done)
            self._start(rows)
            self._observe(rows)
        return self._obs.copy(), reward, terminated, truncated, info

    def _guard(self) -> None:
        qpos, qvel = self._fields["qpos"], self._fields["qvel"]
        # NaN compares as false, so it is bad too.
        if (np.abs(qpos) < LARGEST_STATE).all() and (np.abs(qvel) < LARGEST_STATE).all():
            return
        bad = ~((np.abs(qpos) < LARGEST_STATE).all(axis=1) & (np.abs(qvel) < LARGEST_STATE).all(axis=1))
        np.savez_compressed(self._dump, qpos=qpos, qvel=qvel, target=np.asarray(self._ctrl), bad=bad)
        raise PhysicsError(
            f"physics diverged in {int(bad.sum())} of {self.num_envs} simulations; "
            f"the state is in {self._dump}, look at it with `bodydouble view {self._dump}`"
        )
