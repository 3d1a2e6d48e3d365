"""TrackedRobot: the little of a robot that an environment needs, apart from its MuJoCo model."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError

if TYPE_CHECKING:
    from sim.robots.spec import RobotSpec


@dataclass(frozen=True)
class TrackedRobot:
    """A floating-base robot with position-controlled joints. Per-joint tuples follow `joint_names`."""

    name: str
    """Name of the robot."""
    joint_names: tuple[str, ...]
    """Controlled joints; the model's first actuators drive them in this order."""
    default_joint_pos: tuple[float, ...]
    """Default pose, rad."""
    joint_lower: tuple[float, ...]
    """Lower limits, rad."""
    joint_upper: tuple[float, ...]
    """Upper limits, rad."""
    action_scale: tuple[float, ...]
    """Joint offset that one unit of action means, rad."""
    base_body: str
    """Body of the root pose."""
    foot_bodies: tuple[str, ...]
    """Bodies that stand on the floor."""
    foot_geoms: tuple[str, ...]
    """Collision geoms of the feet."""

    @classmethod
    def from_spec(cls, robot: RobotSpec) -> TrackedRobot:
        """Take what is needed from a robot of the registry.

        Raises:
            InputError: The robot has no floating base; it cannot track a whole-body motion.
        """
        if not robot.floating_base:
            raise InputError(f"robot {robot.name}: has a fixed base; whole-body tracking needs a floating one")
        return cls(
            name=robot.name,
            joint_names=robot.joint_names,
            default_joint_pos=tuple(map(float, robot.default_joint_pos)),
            joint_lower=tuple(map(float, robot.joint_lower)),
            joint_upper=tuple(map(float, robot.joint_upper)),
            action_scale=tuple(map(float, robot.action_scale)),
            base_body=robot.base_body,
            foot_bodies=robot.foot_bodies,
            foot_geoms=robot.foot_geoms,
        )

    def save(self, path: Path) -> None:
        """Write the robot as JSON, every digit kept."""
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> TrackedRobot:
        """Read a robot written by `save`.

        Raises:
            InputError: The file is missing or lacks a field.
        """
        raw = read_json(path)
        try:
            fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}
            return cls(**fields)
        except (TypeError, AttributeError) as error:
            raise InputError(f"{path}: is no robot file ({error}); write it again") from None
