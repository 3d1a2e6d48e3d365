"""HalfCheetahVectorEnv: Gymnasium's HalfCheetah-v5 task on mujoco.batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sim.env.gymnasium_task import GymnasiumTask, gymnasium_model


class HalfCheetahVectorEnv(GymnasiumTask):
    """N half cheetahs that are to run. Observation (N, 17), reward and reset are those of HalfCheetah-v5."""

    def __init__(self, num_envs: int, threads: int = 0, dump: Path = Path("nan_state.npz")) -> None:
        """Make the simulations (see GymnasiumTask)."""
        super().__init__(gymnasium_model("half_cheetah.xml"), num_envs, threads, dump)

    def _observe(self, rows: np.ndarray | slice) -> np.ndarray:
        parts = [self._qpos[rows, 1:], self._qvel[rows]]
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")

    def _place(self) -> np.ndarray:
        return self._qpos[:, 0].copy()

    def _judge(self, obs: np.ndarray, forward: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return forward - 0.1 * np.einsum("ij,ij->i", actions, actions), np.zeros(self.num_envs, bool)
