"""A stage with nothing but a floor, for training on motions that touch only the floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bodydouble.motion import RobotMotion
from sim.robots import RobotSpec
from sim.stage.stage import PHYSICS_DT, Stage
from sim.stage.write import add_floor, write_stage


def flat_stage(robot: RobotSpec, motions: Sequence[RobotMotion] | RobotMotion, out: Path) -> Stage:
    """Write a stage with only a floor.

    Args:
        robot: The robot.
        motions: Reference motions of this robot at the control rate; the first becomes the reference.
        out: The folder to write.

    Raises:
        InputError: There is no motion, or one is for another robot or rate.
    """
    motions = [motions] if isinstance(motions, RobotMotion) else list(motions)
    spec = robot.mjspec(PHYSICS_DT)
    add_floor(spec)
    config = {"kind": "flat", "robot": robot.name, "frames": [motion.num_frames for motion in motions]}
    return write_stage(spec, robot, motions, out, config=config, inputs={}, figures={"motions": len(motions)})
