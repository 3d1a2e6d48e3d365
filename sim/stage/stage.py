"""The Stage artifact: a folder with the scene and robot as MJCF, the reference motion, and what they were made from."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from bodydouble.artifacts import read_json, sha256_file, sha256_tree
from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from sim.robots import RobotSpec, robot_spec
from sim.robots.spec import compile_spec, drop_visuals, load_mjspec
from sim.stage.figures import report_lines
from sim.stage.limits import check_files, check_model, check_spec

MODEL_FILE = "stage.xml"
"""The MJCF model: robot, floor and furniture."""
ASSETS_FOLDER = "assets"
"""Meshes that the model uses."""
REFERENCE_FILE = "reference.npz"
"""The reference motion."""
MOTIONS_FOLDER = "motions"
"""Further reference motions, if any."""
MANIFEST_FILE = "stage.json"
"""Robot, rates, hashes, metrics, provenance."""
CONTROL_HZ = 50.0
"""Control rate of every stage, Hz."""
PHYSICS_DT = 0.005
"""Physics step of every stage, s."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A loaded stage."""

    path: Path
    """The stage's folder."""
    robot: RobotSpec
    """The robot in it."""
    motions: tuple[RobotMotion, ...]
    """Reference motions; the first one is reference.npz."""
    control_hz: float
    """Control rate, Hz."""
    physics_dt: float
    """Physics step, s."""
    manifest: dict[str, Any]
    """Contents of stage.json."""

    def __str__(self) -> str:
        """Where it is, what it holds, and what it kept of its scene."""
        seconds = ", ".join(f"{motion.duration_s:.1f} s" for motion in self.motions[:3])
        more = f" and {len(self.motions) - 3} more" if len(self.motions) > 3 else ""
        first = f"{self.path}: {self.robot.name}, reference {seconds}{more}"
        return "\n  ".join([first, *report_lines(self.figures)])

    @property
    def figures(self) -> dict[str, float]:
        """Figures of stage.json."""
        return self.manifest["figures"]

    @property
    def model_path(self) -> Path:
        """The MJCF file."""
        return self.path / MODEL_FILE

    @property
    def reference(self) -> RobotMotion:
        """The reference motion."""
        return self.motions[0]

    def playing(self, motion: int) -> Stage:
        """Return the stage with another of its motions in the reference's place.

        Raises:
            InputError: There is no motion of that number.
        """
        if not 0 <= motion < len(self.motions):
            raise InputError(f"{self.path}: has {len(self.motions)} motions, asked for {motion}; the first is 0")
        others = (*self.motions[:motion], *self.motions[motion + 1 :])
        return replace(self, motions=(self.motions[motion], *others))

    @functools.cached_property
    def sha256(self) -> str:
        """One hash over the model, its meshes and its motions: what a policy's contract names."""
        return stage_hash(self.manifest["files"])

    def compile(self, *, visuals: bool = True) -> mujoco.MjModel:
        """Return the compiled model; without visuals it compiles and copies faster, and moves the same.

        Raises:
            InputError: The model is larger than the limits, does not compile, or lacks an actuator of the robot.
        """
        spec = load_mjspec(self.model_path)
        check_spec(spec, str(self.model_path))
        if not visuals:
            drop_visuals(spec)
        model = compile_spec(spec, str(self.model_path))
        check_model(model, str(self.model_path))
        _check_actuators(model, self)
        return model

    @classmethod
    def load(cls, path: Path | str, robot: str | None = None) -> Stage:
        """Read a stage.

        Args:
            path: The stage's folder.
            robot: Name of the robot that the caller needs; None takes any.

        Raises:
            InputError: The folder is no stage, is larger than the limits, is for another robot, or was changed since it
                was written.
        """
        path = Path(path)
        if path.is_file():
            raise InputError(f"{path}: is a file, expected a stage's folder; make one with `bodydouble stage`")
        if not path.is_dir():
            raise InputError(f"{path}: no such stage folder; make one with `bodydouble stage`")
        check_files(path, MODEL_FILE)
        manifest = read_json(path / MANIFEST_FILE)
        _check_manifest(path, manifest)
        name = manifest["robot"]["name"]
        if robot is not None and robot != name:
            raise InputError(f"{path}: is a stage for robot {name}, expected {robot}; build a stage for {robot}")
        for file, digest in manifest["files"].items():
            target = path / file
            if not target.exists() or sha256_tree(target) != digest:
                raise InputError(f"{target}: is not as `bodydouble stage` wrote it; build the stage again")
        spec = robot_spec(manifest["robot"]["source"] if manifest["robot"]["from_mjcf"] else name)
        if list(spec.joint_names) != manifest["robot"]["joint_names"]:
            raise InputError(f"{path}: its {name} has other joints than this version's; build the stage again")
        files = [path / file for file in manifest["motions"]]
        motions = tuple(RobotMotion.load(file) for file in files)
        for file, motion in zip(files, motions, strict=True):
            check_motion(str(file), motion, spec, float(manifest["control_hz"]))
        return cls(path, spec, motions, float(manifest["control_hz"]), float(manifest["physics_dt"]), manifest)


def stage_hash(files: dict[str, str]) -> str:
    """Return one SHA-256 over a stage's files and their hashes."""
    return hashlib.sha256("\n".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()


def _check_manifest(path: Path, manifest: Any) -> None:
    wanted = {"robot": dict, "files": dict, "motions": list, "figures": dict, "control_hz": float, "physics_dt": float}
    for key, kind in wanted.items():
        if not isinstance(manifest, dict) or not isinstance(manifest.get(key), kind):
            raise InputError(f"{path / MANIFEST_FILE}: lacks {key!r}; build the stage again")
    robot_keys = {"name", "source", "from_mjcf", "joint_names"}
    names = [*manifest["files"], *manifest["motions"]]
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in names)
    if not robot_keys <= set(manifest["robot"]) or not manifest["motions"] or not inside:
        raise InputError(f"{path / MANIFEST_FILE}: is damaged; build the stage again")


def _check_actuators(model: mujoco.MjModel, stage: Stage) -> None:
    """Raise InputError where the model's first actuators are not those of the robot's joints."""
    names = stage.robot.joint_names
    have = tuple(model.actuator(i).name for i in range(min(model.nu, len(names))))
    if have != names:
        lacking = next((name for name in names if name not in have), names[0])
        raise InputError(
            f"{stage.model_path}: has {model.nu} actuators, expected one per joint of {stage.robot.name}, in order "
            f"(the first that is missing or misplaced: {lacking}); build the stage again"
        )


def check_motion(what: str, motion: RobotMotion, robot: RobotSpec, control_hz: float) -> None:
    """Raise InputError where a motion is for other joints or another rate."""
    if motion.joint_names != robot.joint_names:
        raise InputError(f"{what}: is a motion of other joints than robot {robot.name}'s; retarget it to this robot")
    if not np.isclose(motion.fps, control_hz):
        raise InputError(f"{what}: has {motion.fps} frames/s, expected the control rate {control_hz}; resample it")


def file_hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each named file or folder inside a folder."""
    return {
        name: sha256_tree(folder / name) if (folder / name).is_dir() else sha256_file(folder / name) for name in names
    }
