"""The tasks that bodydouble knows by name, beside the tracking of a stage's reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_type_hints

from bodydouble.errors import InputError
from sim.env.task import Task
from sim.robots import robot_spec
from sim.tasks.reach.config import PickConfig, ReachConfig
from sim.tasks.reach.pick_task import PickTask
from sim.tasks.reach.reach_task import ReachTask
from sim.tasks.velocity.config import VelocityConfig
from sim.tasks.velocity.task import VelocityTask

_TASKS: dict[str, tuple[type, Callable[..., Task]]] = {
    "velocity": (VelocityConfig, VelocityTask.of),
    "reach": (ReachConfig, ReachTask.of),
    "pick": (PickConfig, PickTask.of),
}


def task_names() -> tuple[str, ...]:
    """Return the names that `make_task` knows."""
    return tuple(_TASKS)


def task_config(name: str) -> type:
    """Return the class of a task's settings.

    Raises:
        InputError: The task is unknown.
    """
    if name not in _TASKS:
        raise InputError(f"task {name!r} is unknown; expected {', '.join(_TASKS)}, or train on a stage with --stage")
    return _TASKS[name][0]


def make_task(name: str, robot: str, config: Any = None) -> Task:
    """Return a task for a robot.

    Args:
        name: One of `task_names()`.
        robot: A robot's registered name.
        config: The task's settings; its defaults if None.

    Raises:
        InputError: Task or robot is unknown, the robot lacks what the task needs, or the settings are another task's.
    """
    kind = task_config(name)
    config = kind() if config is None else config
    if not isinstance(config, kind):
        raise InputError(f"task {name!r} has settings {type(config).__name__}, expected {kind.__name__}")
    return _TASKS[name][1](robot_spec(robot), config)


def settings_from_plain(name: str, raw: Any) -> Any:
    """Return a task's settings from the JSON that a training wrote.

    Raises:
        InputError: The task is unknown, or the settings are not those of this version.
    """
    try:
        return _from_plain(task_config(name), raw)
    except (TypeError, AttributeError, KeyError) as error:
        raise InputError(f"the settings of task {name!r} are not of this version ({error}); train again") from None


def _from_plain(kind: type, raw: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    values = {}
    for key, value in raw.items():
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _from_plain(hints[key], value)  # type: ignore[arg-type]
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
