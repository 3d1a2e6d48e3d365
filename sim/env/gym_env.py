"""TrackingGymEnv and TrackingVectorEnv: the tracking task as Gymnasium environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sim.backend.cpu_batch import CpuBatch
from sim.env.gym_faces import ACTION_BOUND, BatchedGymEnv, BatchedVectorEnv
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TrackingConfig
from sim.tasks.tracking.terminations import TERMINATIONS

__all__ = ["ACTION_BOUND", "TrackingGymEnv", "TrackingVectorEnv"]


class TrackingVectorEnv(BatchedVectorEnv):
    """N robots on a stage that follow its reference; a finished environment starts anew in the same step.

    The observation at the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    """

    def __init__(
        self, stage: Stage | Path | str, num_envs: int, config: TrackingConfig | None = None, threads: int = 0
    ) -> None:
        """Load the stage.

        Args:
            stage: The stage, or its folder.
            num_envs: Number of environments N.
            config: The task.
            threads: Threads of the simulation; 0 takes every core.

        Raises:
            InputError: The stage cannot be used for whole-body tracking.
        """
        self.stage = stage if isinstance(stage, Stage) else Stage.load(stage)
        self.robot = TrackedRobot.from_spec(self.stage.robot)
        task = config or TrackingConfig(control_hz=self.stage.control_hz)
        model = self.stage.compile(visuals=False)

        def make(seed: int) -> TrackingEnv:
            return TrackingEnv(CpuBatch(model, num_envs, seed, threads), self.robot, self.stage.motions, task)

        super().__init__(make, num_envs)

    def measures(self, result: Any) -> dict[str, Any]:
        """Return the body error (N,), m."""
        return {"body_error_m": result.body_error}


class TrackingGymEnv(BatchedGymEnv):
    """One robot on a stage that follows its reference."""

    def __init__(self, stage: Stage | Path | str, config: TrackingConfig | None = None) -> None:
        """Load the stage.

        Args:
            stage: The stage, or its folder.
            config: The task.

        Raises:
            InputError: The stage cannot be used for whole-body tracking.
        """
        super().__init__(TrackingVectorEnv(stage, 1, config, threads=1), tuple(TERMINATIONS))
