"""The CPU backend: mujoco.batch, a pool of threads over persistent simulations."""

from __future__ import annotations

import json
from typing import Any

import array_api_compat.numpy as xp
import mujoco
import mujoco.batch
import numpy as np

from sim.backend.lean import lean_model, stop_clock


class CpuBatch:
    """N simulations on the CPU's threads; a SimBackend of numpy arrays. Bit-identical at any number of threads."""

    xp: Any = xp
    device = "cpu"

    def __init__(self, model: mujoco.MjModel, num_envs: int, seed: int, threads: int = 0) -> None:
        """Make the simulations.

        Args:
            model: The compiled model.
            num_envs: Number of simulations N.
            seed: Seed of every random number the backend hands out.
            threads: Worker threads; 0 takes every core.
        """
        self.model = model
        self.num_envs = num_envs
        # One MjData per thread stays in the processor's cache, one per simulation does not. Sleeping bodies need the
        # latter: which ones sleep is in no simulation's state.
        sleeps = bool(model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP)
        stop_clock()
        self._batch = mujoco.batch.Batch(lean_model(model), num_envs, threads, persistent=sleeps)
        self._rng = np.random.default_rng(seed)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")
        self._warmstart = self._batch.bind("qacc_warmstart")
        self._xpos = self._batch.bind("xpos")
        self._xquat = self._batch.bind("xquat")
        self._time = self._batch.bind("time")
        self._controls = np.zeros((num_envs, 0, model.nu))
        self._warnings = 0

    def get_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions (N, nq) and velocities (N, nv), float32."""
        return self._qpos.astype(np.float32), self._qvel.astype(np.float32)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Set positions (M, nq) and velocities (M, nv), of all simulations or of some; see SimBackend.set_state."""
        if rows is None:
            changed = np.any(self._qpos.astype(np.float32) != qpos, axis=1)
            changed |= np.any(self._qvel.astype(np.float32) != qvel, axis=1)
            rows = np.flatnonzero(changed)
            qpos, qvel = qpos[rows], qvel[rows]
        self._qpos[rows], self._qvel[rows] = qpos, qvel
        self._warmstart[rows] = 0.0

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return what the coming steps and random numbers depend on, at full precision; model fields apart."""
        arrays = {name: array.copy() for name, array in self._state_arrays().items()}
        state = json.dumps(self._rng.bit_generator.state)
        return {**arrays, "random": np.frombuffer(state.encode(), np.uint8).copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `snapshot` returned; body poses are those of this state only after the next step."""
        for name, array in self._state_arrays().items():
            array[...] = state[name]
        self._rng.bit_generator.state = json.loads(bytes(np.asarray(state["random"], np.uint8)))

    def _state_arrays(self) -> dict[str, np.ndarray]:
        return {
            "qpos": self._qpos,
            "qvel": self._qvel,
            "ctrl": self._ctrl,
            "warmstart": self._warmstart,
            "time": self._time,
        }

    def step(self, ctrl: np.ndarray, previous_ctrl: np.ndarray, delay: np.ndarray, num_substeps: int) -> None:
        """Advance every simulation by one control step (see SimBackend.step)."""
        if self._controls.shape[1] != num_substeps:
            self._controls = np.zeros((self.num_envs, num_substeps, self.model.nu))
        controls = self._controls
        controls[:] = ctrl[:, None]
        if delay.any():
            late = np.flatnonzero(delay)
            waits = np.arange(num_substeps) < delay[late, None]
            controls[late] = np.where(waits[..., None], previous_ctrl[late, None], ctrl[late, None])
        start = self._time.copy()
        # All substeps in one call: each simulation's data is brought into the cache once, its controls come along.
        self._batch.rollout(num_substeps, controls, record=())
        warnings = int(self._batch.warning[..., 1].sum())
        if warnings != self._warnings:
            self._warnings = warnings
            self._finish(start, num_substeps)

    def _finish(self, start: np.ndarray, num_substeps: int) -> None:
        """Make the missing substeps where MuJoCo warned: `rollout` stops such a simulation, `step` does not."""
        done = np.rint((self._time - start) / self.model.opt.timestep)
        for substep in range(num_substeps):
            rows = np.flatnonzero(done <= substep)
            if len(rows):
                self._ctrl[rows] = self._controls[rows, substep]
                self._batch.step(rows)
        self._warnings = int(self._batch.warning[..., 1].sum())

    def body_pos(self) -> np.ndarray:
        """Return the positions of all bodies (N, nbody, 3), world, m, float32."""
        return self._xpos.reshape(self.num_envs, self.model.nbody, 3).astype(np.float32)

    def body_quat(self) -> np.ndarray:
        """Return the orientations of all bodies (N, nbody, 4), wxyz, float32."""
        return self._xquat.reshape(self.num_envs, self.model.nbody, 4).astype(np.float32)

    def set_model_field(self, name: str, values: np.ndarray) -> None:
        """Give a model field its own values (N, ...) in every simulation."""
        field = self._batch.expand(name)
        field[...] = np.asarray(values).reshape(field.shape)

    def random(self, *shape: int) -> np.ndarray:
        """Return uniform random numbers in [0, 1), float32."""
        return self._rng.random(shape, dtype=np.float32)

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal random numbers, float32."""
        return self._rng.standard_normal(shape, dtype=np.float32)

    def asarray(self, values: Any) -> np.ndarray:
        """Return values as numpy: floats as float32, integers as int64, bools as bool."""
        values = np.asarray(values)
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        return values.astype(np.int64) if values.dtype.kind in "iu" else values

    def accumulate(self, index: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
        """Return sums (size,) of the weights by index."""
        return np.bincount(index, weights=weight, minlength=size).astype(np.float32)
