"""AntVectorEnv: Gymnasium's Ant-v5 task on mujoco.batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.env.gymnasium_task import GymnasiumTask, gymnasium_model

_HEALTHY_Z = (0.2, 1.0)
_STATE_SIZE = 27
"""Values of the observation before the contact forces."""


class AntVectorEnv(GymnasiumTask):
    """N ants that are to walk.

    Observation (N, 105), reward, termination and reset are those of Ant-v5; only the contact forces are taken at the
    first stage of the last Runge-Kutta step, where Gymnasium reads those of its last stage.
    """

    def __init__(self, num_envs: int, threads: int = 0, dump: Path = Path("nan_state.npz")) -> None:
        """Make the simulations (see GymnasiumTask)."""
        super().__init__(gymnasium_model("ant.xml", accelerometer_on="torso"), num_envs, threads, dump)

    def _bind(self) -> None:
        self._xpos, self._cfrc = self._batch.bind("xpos"), self._batch.bind("cfrc_ext")

    def _observe(self, rows: np.ndarray | slice) -> np.ndarray:
        # The first body is the world, on which Gymnasium reports nothing.
        forces = np.clip(self._cfrc.reshape(self.num_envs, -1)[rows, 6:], -1.0, 1.0)
        parts = [self._qpos[rows, 2:], self._qvel[rows], forces]
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")

    def _place(self) -> np.ndarray:
        return self._xpos.reshape(self.num_envs, -1)[:, 3].copy()

    def _judge(self, obs: np.ndarray, forward: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, forces = self._qpos[:, 2], obs[:, _STATE_SIZE:]
        healthy = (height >= _HEALTHY_Z[0]) & (height <= _HEALTHY_Z[1])
        control = 0.5 * np.einsum("ij,ij->i", actions, actions)
        contact = 5e-4 * np.einsum("ij,ij->i", forces, forces)
        return healthy + forward - control - contact, ~healthy
