"""Motion files of several kinds, told apart by suffix and content, as motions of a person or of a robot."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.bvh import load_bvh
from sim.retarget.holosoma import load_climb, load_g1_reference
from sim.retarget.lafan1 import load_lafan1
from sim.retarget.skeleton_bag import load_skeleton_bag
from sim.retarget.utd_mhad import load_utd_mhad
from sim.robots.spec import RobotSpec

SUFFIXES = (".bvh", ".csv", ".npy", ".npz", ".mat", ".db3")
"""Suffixes of the motion files that are read."""


@dataclass(frozen=True)
class SourceConfig:
    """What a motion file does not say of itself."""

    metres_per_unit: float | None = None
    """Length of one unit of a BVH file, m; none guesses it from the skeleton's height."""
    up: Literal["auto", "y", "z"] = "auto"
    """Axis that points up in a BVH file."""
    skip_frames: int | None = None
    """Frames left out at the start of a BVH file; none leaves out a T pose that the motion jumps away from."""
    source_fps: float | None = None
    """Frames per second of a file that does not say it; none takes that of the format."""
    start_s: float = 0.0
    """First time to take, s."""
    end_s: float | None = None
    """Last time to take, s; none takes all."""

    def __post_init__(self) -> None:
        for name in ("metres_per_unit", "source_fps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"motion file: {name} is {value}, expected more than 0")
        if self.start_s < 0 or (self.end_s is not None and not self.end_s > self.start_s):
            raise InputError(f"motion file: nothing lies between {self.start_s} and {self.end_s} s")


@dataclass(frozen=True, eq=False)
class MotionSource:
    """What a motion file holds: a person's motion, or a robot's own."""

    human: HumanMotion | None = None
    """The person's motion, Z up, floor at height zero."""
    robot: RobotMotion | None = None
    """A motion that is the robot's already, at the control rate."""
    solids: list[np.ndarray] = field(default_factory=list)
    """Corners (V, 3) of each convex solid of the scene that was recorded with it, m."""
    has_contacts: bool = False
    """Whether the person's contacts are known; otherwise they are found from height and speed."""


def load_source(path: Path, robot: RobotSpec, config: SourceConfig | None = None, fps: float = 50.0) -> MotionSource:
    """Return the motion of a file.

    Read are BVH files, LAFAN1 clips retargeted by Unitree (csv), holosoma's human joint positions (npy, with the
    boxes beside them) and G1 references (npz), skeletons of UTD-MHAD (mat), ROS 2 bags of tracked skeletons (db3 or
    the bag's folder), and this project's motions (npz).

    Args:
        path: The file.
        robot: The robot that shall follow; a motion of a robot must be one of its own.
        config: What the file does not say of itself.
        fps: Control rate that a robot's motion is brought to.

    Raises:
        InputError: The file is missing, damaged or of no known kind, or holds the motion of another robot.
    """
    config = config or SourceConfig()
    if path.suffix.lower() == ".db3" or (path / "metadata.yaml").is_file():
        return MotionSource(human=cut(load_skeleton_bag(path), config))
    if not path.is_file():
        raise InputError(f"{path}: no such motion file; expected one of {', '.join(SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix == ".bvh":
        human = load_bvh(path, metres_per_unit=config.metres_per_unit, up=config.up, skip_frames=config.skip_frames)
        return MotionSource(human=cut(human, config))
    if suffix == ".csv":
        return MotionSource(robot=load_lafan1(path, robot, start_s=config.start_s, end_s=config.end_s, fps=fps))
    if suffix == ".npy":
        human, solids = load_climb(path, source_fps=config.source_fps)
        return MotionSource(human=cut(human, config), solids=solids)
    if suffix == ".mat":
        return MotionSource(human=cut(load_utd_mhad(path, source_fps=config.source_fps), config))
    if suffix == ".npz":
        return _load_npz(path, robot, config, fps)
    raise InputError(f"{path}: is of no known kind; expected one of {', '.join(SUFFIXES)}")


def _load_npz(path: Path, robot: RobotSpec, config: SourceConfig, fps: float) -> MotionSource:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no npz file ({error})") from None
    if {"times_ns", "contact_pos"} <= names:
        return MotionSource(human=cut(HumanMotion.load(path), config), has_contacts=True)
    if "root_quat" in names:
        motion = RobotMotion.load(path)
        if motion.joint_names != robot.joint_names or not np.isclose(motion.fps, fps):
            raise InputError(
                f"{path}: is a motion of {len(motion.joint_names)} joints at {motion.fps} Hz, "
                f"expected the {robot.num_joints} of robot {robot.name} at {fps} Hz"
            )
        return MotionSource(robot=motion)
    return MotionSource(
        robot=load_g1_reference(path, robot, start_s=config.start_s, end_s=config.end_s, fps=fps),
    )


def cut(human: HumanMotion, config: SourceConfig) -> HumanMotion:
    """Return the frames between start_s and end_s.

    Raises:
        InputError: Fewer than two frames lie between them.
    """
    seconds = (human.times_ns - human.times_ns[0]) * 1e-9
    keep = seconds >= config.start_s - 1e-9
    if config.end_s is not None:
        keep &= seconds <= config.end_s + 1e-9
    if keep.all():
        return human
    if keep.sum() < 2:
        raise InputError(f"motion file: has {keep.sum()} frames between {config.start_s} and {config.end_s} s")
    frames = ("times_ns", "joint_pos", "joint_quat", "contact", "contact_pos", "pose", "root_pos", "seen")
    return dataclasses.replace(human, **{name: getattr(human, name)[keep] for name in frames})
