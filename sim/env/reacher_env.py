"""ReacherVectorEnv: Gymnasium's Reacher-v5 task on mujoco.batch; every episode has 50 steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.env.gymnasium_task import GymnasiumTask, gymnasium_model

_REACH = 0.2
"""Largest distance of a target to the shoulder, m."""


class ReacherVectorEnv(GymnasiumTask):
    """N planar arms that are to touch a target. Observation (N, 10), reward and reset are those of Reacher-v5."""

    frame_skip = 2
    episode_steps = 50

    def __init__(self, num_envs: int, threads: int = 0, dump: Path = Path("nan_state.npz")) -> None:
        """Make the simulations (see GymnasiumTask)."""
        model = gymnasium_model("reacher.xml")
        self._fingertip, self._target = model.body("fingertip").id, model.body("target").id
        super().__init__(model, num_envs, threads, dump)

    def _bind(self) -> None:
        self._xpos = self._batch.bind("xpos")

    def _gap(self) -> np.ndarray:
        """Return the vectors (N, 3) from target to fingertip, m."""
        place = self._xpos.reshape(self.num_envs, -1, 3)
        return place[:, self._fingertip] - place[:, self._target]

    def _observe(self, rows: np.ndarray | slice) -> np.ndarray:
        angle = self._qpos[rows, :2]
        parts = [np.cos(angle), np.sin(angle), self._qpos[rows, 2:], self._qvel[rows, :2], self._gap()[rows, :2]]
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")

    def _place(self) -> np.ndarray:
        return np.zeros(self.num_envs)  # the reward looks at where the arm is, not at where it has come from

    def _judge(self, obs: np.ndarray, forward: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = np.linalg.norm(self._gap(), axis=1)
        return -distance - np.einsum("ij,ij->i", actions, actions), np.zeros(self.num_envs, bool)

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        model, rng = self.model, self._rng
        qpos = model.qpos0 + rng.uniform(-0.1, 0.1, (count, model.nq))
        # Uniform in the disc: what Gymnasium gets by throwing away targets outside of it.
        radius, angle = _REACH * np.sqrt(rng.random(count)), rng.uniform(-np.pi, np.pi, count)
        qpos[:, 2], qpos[:, 3] = radius * np.cos(angle), radius * np.sin(angle)
        qvel = rng.uniform(-0.005, 0.005, (count, model.nv))
        qvel[:, 2:] = 0.0
        return qpos, qvel
