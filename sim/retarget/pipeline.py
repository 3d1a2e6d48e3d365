"""From a motion file to a robot's reference motion, its figures, and a stage to train and verify on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bodydouble.artifacts import write_json
from bodydouble.motion import RobotMotion
from sim.retarget.config import RetargetConfig
from sim.retarget.metrics import motion_metrics
from sim.retarget.retarget import retarget_clip
from sim.retarget.sources import MotionSource, SourceConfig, load_source
from sim.robots import RobotSpec, robot_spec
from sim.stage.stage import PHYSICS_DT, REFERENCE_FILE, Stage
from sim.stage.write import add_floor, write_stage

METRICS_FILE = "metrics.json"
"""Figures of the motion."""


@dataclass(frozen=True)
class PipelineConfig:
    """How a motion file becomes a reference motion."""

    source: SourceConfig = field(default_factory=SourceConfig)
    """What the file does not say of itself."""
    retarget: RetargetConfig = field(default_factory=RetargetConfig)
    """How the motion becomes the robot's."""
    stage: Literal["flat", "none"] = "flat"
    """Whether the folder is a stage to train and verify on, with a flat floor."""


@dataclass(frozen=True, eq=False)
class RetargetedFile:
    """What became of a motion file."""

    path: Path
    """The folder that was written."""
    motion: RobotMotion
    """The robot's motion."""
    figures: dict[str, float]
    """Its figures."""

    def __str__(self) -> str:
        """One line: where it is and how good it is."""
        figures = self.figures
        return (
            f"{self.path}: {self.motion.duration_s:.1f} s, {figures['limit_violations']:.0f} limit violations, "
            f"foot skate {figures['foot_skate_cm_s']:.2f} cm/s, penetration {figures['penetration_mm']:.1f} mm"
        )


def retarget_file(path: Path, robot: str, out: Path, config: PipelineConfig | None = None) -> RetargetedFile:
    """Write the reference motion of a motion file, its figures, and a stage with it.

    Args:
        path: The motion file; see `load_source`.
        robot: A robot's name, or the path of an MJCF or mapping file.
        out: Folder to write: reference.npz and metrics.json, and what else makes a stage.
        config: Settings.

    Raises:
        InputError: The file cannot be read, or the robot cannot follow it.
    """
    config = config or PipelineConfig()
    spec = robot_spec(robot)
    source = load_source(Path(path), spec, config.source, config.retarget.fps)
    motion, figures = follow(source, spec, config.retarget)
    out = Path(out)
    if config.stage == "none":
        out.mkdir(parents=True, exist_ok=True)
        motion.save(out / REFERENCE_FILE)
    else:
        _write_flat(spec, motion, out, config, path, figures)
    write_json(out / METRICS_FILE, {"motion": Path(path).name, "robot": spec.name, "figures": figures})
    return RetargetedFile(out, motion, figures)


def follow(source: MotionSource, robot: RobotSpec, config: RetargetConfig) -> tuple[RobotMotion, dict[str, float]]:
    """Return the robot's motion for a source, and its figures."""
    if source.human is None:
        assert source.robot is not None
        return source.robot, motion_metrics(source.robot, robot)
    if not source.has_contacts:
        config = dataclasses.replace(config, contact_source="kinematic")
    result = retarget_clip(source.human, robot, config)
    return result.motion, result.metrics


def _write_flat(
    spec: RobotSpec, motion: RobotMotion, out: Path, config: PipelineConfig, path: Path, figures: dict[str, float]
) -> Stage:
    model = spec.mjspec(PHYSICS_DT)
    add_floor(model)
    return write_stage(model, spec, [motion], out, config=config, inputs={"motion": Path(path)}, figures=figures)
