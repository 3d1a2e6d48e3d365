"""How a policy does on a tracking task: whole clips, from the start, counted once per environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.env.tracking_env import TrackingEnv

Array = Any


@dataclass(frozen=True)
class Evaluation:
    """Outcome of one episode per environment. N environments."""

    succeeded: np.ndarray
    """Whether the clip was followed to its end (N,)."""
    body_error_m: np.ndarray
    """Mean distance of the tracked bodies to their reference while the episode lasted (N,), m."""
    lasted_s: np.ndarray
    """Length of the episode (N,), s."""
    clip: np.ndarray
    """Index of the clip (N,)."""
    failure: np.ndarray
    """Why the episode failed (N,): 0 it did not, k the k-th of TERMINATIONS, counted from 1."""
    failed_frame: np.ndarray
    """Frame of the clip at which it failed (N,); -1 where it did not."""

    @property
    def success_rate(self) -> float:
        """Share of the episodes that succeeded."""
        return float(self.succeeded.mean())

    @property
    def mean_body_error_m(self) -> float:
        """Mean body error over the episodes, m."""
        return float(self.body_error_m.mean())


def evaluate(env: TrackingEnv, act: Callable[[Array], Array], max_steps: int) -> Evaluation:
    """Run one episode in every environment.

    Args:
        env: The task; its resets should start at the clips' first frame (ResetConfig.exact).
        act: Policy observations (N, P) to actions (N, J), arrays of the environment's backend.
        max_steps: Control steps after which an episode that still runs counts as followed to its end.

    Raises:
        PhysicsError: The physics diverged.
    """
    xp = env.backend.xp
    obs = env.reset()
    clip = _host(env.clip)
    n = env.num_envs
    running = xp.ones_like(env.backend.asarray(np.zeros(n))) > 0
    failure = xp.zeros_like(env.clip)
    failed_frame = failure - 1
    error = env.backend.asarray(np.zeros(n))
    steps = error
    for step in range(max_steps):
        frame = env.frame
        result = env.step(act(obs["policy"]))
        alive = xp.astype(running, xp.float32)
        error = error + alive * result.body_error
        steps = steps + alive
        now = running & result.terminated
        failure = xp.where(now, result.failure, failure)
        failed_frame = xp.where(now, frame, failed_frame)
        running = running & ~(result.terminated | result.truncated)
        obs = result.obs
        # On a GPU each look at the flags waits for it.
        if step % 25 == 0 and not bool(xp.any(running)):
            break
    counted = _host(steps)
    return Evaluation(
        succeeded=_host(failure) == 0,
        body_error_m=_host(error) / counted,
        lasted_s=counted * env.step_s,
        clip=clip,
        failure=_host(failure),
        failed_frame=_host(failed_frame),
    )


def _host(array: Array) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)
