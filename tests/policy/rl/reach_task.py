"""A tiny task for the runner: a point on a line that should go to a target, in episodes of eight steps."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

LENGTH = 8


class ReachTask:
    """N points at x in [-2, 2]; an action moves one by half of it, the reward is the negative distance to a target."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs = num_envs
        self.steps = 0
        self.seen: list[SimpleNamespace] = []
        self._rng = np.random.default_rng(seed)

    def _draw(self) -> np.ndarray:
        return self._rng.uniform(-2, 2, self.num_envs).astype(np.float32)

    def _observe(self) -> dict[str, np.ndarray]:
        policy = np.stack([self._x, self._target], axis=1)
        age = (self._age / LENGTH).astype(np.float32)
        return {"policy": policy, "critic": np.concatenate([policy, age[:, None]], axis=1)}

    def reset(self) -> dict[str, np.ndarray]:
        self._x, self._target = self._draw(), self._draw()
        # Ages differ, so that episodes end at different steps.
        self._age = np.arange(self.num_envs) % LENGTH
        return self._observe()

    def snapshot(self) -> dict[str, np.ndarray]:
        state = json.dumps(self._rng.bit_generator.state)
        return {"x": self._x, "target": self._target, "age": self._age, "rng": np.array(list(state.encode()), np.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._x, self._target, self._age = state["x"], state["target"], state["age"]
        self._rng.bit_generator.state = json.loads(bytes(state["rng"]))

    def step(self, action: Any) -> SimpleNamespace:
        assert isinstance(action, np.ndarray)
        self.steps += 1
        self._x = self._x + 0.5 * action[:, 0]
        self._age = self._age + 1
        reward = -np.abs(self._x - self._target)
        terminated = np.abs(self._x) > 4
        truncated = ~terminated & (self._age >= LENGTH)
        final = self._observe()
        done = terminated | truncated
        self._x = np.where(done, self._draw(), self._x)
        self._target = np.where(done, self._draw(), self._target)
        self._age = np.where(done, 0, self._age)
        result = SimpleNamespace(
            obs=self._observe(), reward=reward, terminated=terminated, truncated=truncated, final_obs=final
        )
        self.seen.append(result)
        return result
