"""RewardScale: rewards in units of the spread of the discounted return, so that one value loss suits every task."""

from __future__ import annotations

import numpy as np


class RewardScale:
    """Divides rewards by the running standard deviation of the discounted return (Engstrom et al. 2020, section 3)."""

    def __init__(self, num_envs: int, gamma: float, clip: float = 10.0) -> None:
        """Start without knowledge.

        Args:
            num_envs: Number of environments N.
            gamma: Discount of the return.
            clip: Bound on the scaled reward.
        """
        self._gamma, self._clip = gamma, clip
        self._returns = np.zeros(num_envs)
        self._count, self._mean, self._var = 1e-4, 0.0, 1.0

    def __call__(self, reward: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Take rewards (N,) and whether each episode ended (N,) into the statistics; return the rewards scaled."""
        self._returns = self._returns * self._gamma + reward
        self._update(self._returns)
        self._returns[done] = 0.0
        return np.clip(reward / np.sqrt(self._var + 1e-8), -self._clip, self._clip).astype(np.float32)

    def _update(self, values: np.ndarray) -> None:
        # Parallel variance (Chan et al. 1983).
        count = len(values)
        total = self._count + count
        delta = float(values.mean()) - self._mean
        spread = self._var * self._count + float(values.var()) * count + delta**2 * self._count * count / total
        self._mean += delta * count / total
        self._var, self._count = spread / total, total

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return the state as arrays by name."""
        return {"returns": self._returns.copy(), "moments": np.array([self._count, self._mean, self._var])}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `snapshot` returned."""
        self._returns = np.array(state["returns"], float)
        self._count, self._mean, self._var = (float(value) for value in state["moments"])
