"""TaskGymEnv and TaskVectorEnv: walking, reaching and picking as Gymnasium environments."""

from __future__ import annotations

from typing import Any

from bodydouble.errors import InputError
from sim.backend.cpu_batch import CpuBatch
from sim.env.gym_faces import BatchedGymEnv, BatchedVectorEnv
from sim.env.task_env import TaskEnv
from sim.tasks.registry import make_task


class TaskVectorEnv(BatchedVectorEnv):
    """N robots at a task; a finished environment starts anew in the same step.

    The observation at the end of a finished episode is in `info["final_obs"]`, valid where `info["_final_obs"]`.
    """

    def __init__(self, task: str, robot: str, num_envs: int, setup: Any = None, threads: int = 0) -> None:
        """Build the task.

        Args:
            task: Name of the task: velocity, reach or pick.
            robot: A robot's registered name.
            num_envs: Number of environments N, at least 1.
            setup: Settings of the task.
            threads: Threads of the simulation; 0 takes every core.

        Raises:
            InputError: The number of environments is not positive, task or robot is unknown, or the robot lacks what
                the task needs.
        """
        if num_envs < 1:
            raise InputError(f"num_envs is {num_envs}, expected 1 or more")
        self.task = make_task(task, robot, setup)
        super().__init__(lambda seed: TaskEnv(CpuBatch(self.task.model, num_envs, seed, threads), self.task), num_envs)

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the causes of a failed episode; `info["failure"]` counts them from 1."""
        assert isinstance(self._env, TaskEnv)
        return self._env.failures


class TaskGymEnv(BatchedGymEnv):
    """One robot at a task."""

    def __init__(self, task: str, robot: str, setup: Any = None) -> None:
        """Build the task (see TaskVectorEnv).

        Raises:
            InputError: Task or robot is unknown, or the robot lacks what the task needs.
        """
        vector = TaskVectorEnv(task, robot, 1, setup, threads=1)
        super().__init__(vector, vector.failures)
