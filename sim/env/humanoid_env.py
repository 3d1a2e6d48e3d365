"""HumanoidVectorEnv: Gymnasium's Humanoid-v5 task on mujoco.batch."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from sim.env.gymnasium_task import GymnasiumTask, gymnasium_model

FRAME_SKIP = 5
"""Physics steps of a control step."""
OBSERVED = ("qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
"""Fields of the simulation that the observation is made of, in its order."""
_SKIPPED = {"qpos": 2, "qvel": 0, "cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}
_HEALTHY_Z = (1.0, 2.0)
_RESET_NOISE = 0.01


def humanoid_model() -> mujoco.MjModel:
    """Return Gymnasium's humanoid with an accelerometer, which makes every step compute the contact forces."""
    return gymnasium_model("humanoid.xml", accelerometer_on="torso")


class HumanoidVectorEnv(GymnasiumTask):
    """N humanoids that are to walk.

    Observation (N, 348), reward, termination and reset are those of Humanoid-v5; only the contact forces are taken at
    the first stage of the last Runge-Kutta step, where Gymnasium reads those of its last stage.
    """

    frame_skip = FRAME_SKIP

    def __init__(self, num_envs: int, threads: int = 0, dump: Path = Path("nan_state.npz")) -> None:
        """Make the simulations (see GymnasiumTask)."""
        super().__init__(humanoid_model(), num_envs, threads, dump)

    def _bind(self) -> None:
        fields = {name: self._batch.bind(name) for name in OBSERVED}
        self._com = self._batch.bind("subtree_com")
        self._flat = [fields[name].reshape(self.num_envs, -1) for name in OBSERVED]
        starts = [_SKIPPED[name] * int(np.prod(fields[name].shape[2:])) for name in OBSERVED]
        ends = np.cumsum([flat.shape[1] - start for flat, start in zip(self._flat, starts, strict=True)])
        self._parts = list(zip(self._flat, starts, [0, *ends[:-1].tolist()], ends.tolist(), strict=True))

    def _observe(self, rows: np.ndarray | slice) -> np.ndarray:
        count = self.num_envs if isinstance(rows, slice) else len(rows)
        obs = np.empty((count, self._parts[-1][3]), np.float32)
        for field, start, low, high in self._parts:
            obs[:, low:high] = field[rows, start:]
        return obs

    def _place(self) -> np.ndarray:
        return self._com[:, 0, 0].copy()

    def _judge(self, obs: np.ndarray, forward: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height = self._qpos[:, 2]
        healthy = (height > _HEALTHY_Z[0]) & (height < _HEALTHY_Z[1])
        forces = obs[:, self._parts[-1][2] :]
        contact = np.minimum(5e-7 * np.einsum("ij,ij->i", forces, forces), 10.0)
        control = 0.1 * np.einsum("ij,ij->i", actions, actions)
        return 5.0 * healthy + 1.25 * forward - control - contact, ~healthy

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        model = self.model
        noise = self._rng.uniform(-_RESET_NOISE, _RESET_NOISE, (count, model.nq + model.nv))
        return model.qpos0 + noise[:, : model.nq], noise[:, model.nq :]
