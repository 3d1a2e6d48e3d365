"""A task that needs memory: a sign is shown in the first step of an episode and asked for in its last."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

LENGTH = 4


class RecallTask:
    """N episodes of four steps; the reward of the last step is minus the squared distance of the action to the sign."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs = num_envs
        self._rng = np.random.default_rng(seed)

    def snapshot(self) -> dict[str, np.ndarray]:
        state = json.dumps(self._rng.bit_generator.state)
        return {"sign": self._sign, "age": self._age, "rng": np.array(list(state.encode()), np.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._sign, self._age = state["sign"], state["age"]
        self._rng.bit_generator.state = json.loads(bytes(state["rng"]))

    def _draw(self) -> np.ndarray:
        return np.where(self._rng.random(self.num_envs) < 0.5, -1.0, 1.0).astype(np.float32)

    def _observe(self) -> dict[str, np.ndarray]:
        shown = np.where(self._age == 0, self._sign, 0.0).astype(np.float32)
        last = (self._age == LENGTH - 1).astype(np.float32)
        # What the robot cannot see, the critic is told: the sign itself.
        return {"policy": np.stack([shown, last], axis=1), "critic": np.stack([self._sign, last], axis=1)}

    def reset(self) -> dict[str, np.ndarray]:
        self._sign, self._age = self._draw(), np.arange(self.num_envs) % LENGTH
        return self._observe()

    def step(self, action: Any) -> SimpleNamespace:
        last = self._age == LENGTH - 1
        reward = np.where(last, -((action[:, 0] - self._sign) ** 2), 0.0).astype(np.float32)
        self._age = self._age + 1
        final = self._observe()
        self._sign = np.where(last, self._draw(), self._sign)
        self._age = np.where(last, 0, self._age)
        return SimpleNamespace(
            obs=self._observe(), reward=reward, terminated=last, truncated=np.zeros_like(last), final_obs=final
        )
