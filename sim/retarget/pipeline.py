"""From a motion file to a robot's reference motion, its figures, and a stage to train and verify on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bodydouble.artifacts import write_json
from bodydouble.motion import RobotMotion
from bodydouble.report.motion_plot import feasibility_plot
from sim.retarget.config import RetargetConfig
from sim.retarget.feasibility import check_feasibility
from sim.retarget.hand import retarget_hand
from sim.retarget.own_motion import refine
from sim.retarget.retarget import retarget_clip
from sim.retarget.scene import Scene, add_solids
from sim.retarget.sources import MotionSource, SourceConfig, load_source
from sim.robots import RobotSpec, robot_spec
from sim.stage.stage import PHYSICS_DT, REFERENCE_FILE
from sim.stage.write import add_floor, write_stage

METRICS_FILE = "metrics.json"
"""Figures of the motion, and a verdict per second."""
PLOT_FILE = "feasibility.png"
"""What the robot can do, over time."""


@dataclass(frozen=True)
class PipelineConfig:
    """How a motion file becomes a reference motion."""

    source: SourceConfig = field(default_factory=SourceConfig)
    """What the file does not say of itself."""
    retarget: RetargetConfig = field(default_factory=RetargetConfig)
    """How the motion becomes the robot's."""
    stage: Literal["scene", "flat", "none"] = "scene"
    """What the folder is: a stage with the solids of the motion's own scene (none: a bare floor), a stage with a bare
    floor, or no stage but the motion alone."""


@dataclass(frozen=True, eq=False)
class RetargetedFile:
    """What became of a motion file."""

    path: Path
    """The folder that was written."""
    motion: RobotMotion
    """The robot's motion."""
    figures: dict[str, float]
    """Its figures."""
    seconds: list[dict[str, float | str | bool]]
    """A verdict per second; see `Feasibility.seconds`."""

    def __str__(self) -> str:
        """One line: where it is, how good it is, and which seconds the robot cannot do."""
        figures = self.figures
        bad = [f"{second['second']} ({second['cause']})" for second in self.seconds if not second["feasible"]]
        verdict = f"cannot do seconds {', '.join(bad[:8])}{', ...' * (len(bad) > 8)}" if bad else "all can be done"
        return (
            f"{self.path}: {self.motion.duration_s:.1f} s, {figures['limit_violations']:.0f} limit violations, "
            f"foot skate {figures['foot_skate_cm_s']:.2f} cm/s, penetration {figures['penetration_mm']:.1f} mm; "
            f"{verdict}"
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
    result = follow(source, spec, config.retarget)
    motion, figures = result.motion, result.figures
    feasible = check_feasibility(motion, spec, result.scene)
    seconds = feasible.seconds()
    figures = figures | feasible.figures()
    out = Path(out)
    if config.stage == "none":
        out.mkdir(parents=True, exist_ok=True)
        motion.save(out / REFERENCE_FILE)
    else:
        scene = result.scene if config.stage == "scene" else None
        model = spec.mjspec(PHYSICS_DT)
        add_floor(model)
        if scene is not None:
            add_solids(model, scene)
        inputs = {"motion": Path(path)}
        extra = {"feasibility": seconds}
        write_stage(model, spec, [motion], out, config=config, inputs=inputs, figures=figures, extra=extra)
    verdicts = {"figures": figures, "feasibility": seconds}
    write_json(out / METRICS_FILE, {"motion": Path(path).name, "robot": spec.name} | verdicts)
    (out / PLOT_FILE).write_bytes(
        feasibility_plot(feasible.torque, feasible.speed, feasible.residual, seconds, feasible.fps)
    )
    return RetargetedFile(out, motion, figures, seconds)


@dataclass(frozen=True, eq=False)
class Followed:
    """A robot's motion that follows a source."""

    motion: RobotMotion
    """The motion."""
    figures: dict[str, float]
    """Its figures."""
    scene: Scene | None = None
    """The solids of the source's scene, scaled as the motion is."""


def follow(source: MotionSource, robot: RobotSpec, config: RetargetConfig) -> Followed:
    """Return a robot's motion that follows a source.

    A person's motion is retargeted, a robot's own is refined.

    Raises:
        InputError: The robot cannot follow it.
    """
    scene = Scene(tuple(source.solids)) if source.solids else None
    if source.human is None:
        assert source.robot is not None
        motion, figures = refine(source.robot, robot, config, scene)
        return Followed(motion, figures, scene)
    if not source.has_contacts:
        config = dataclasses.replace(config, contact_source="kinematic")
    if robot.follow is not None and robot.follow.tool is not None:
        motion, figures = retarget_hand(source.human, robot, config)
        return Followed(motion, figures)
    result = retarget_clip(source.human, robot, config, scene)
    return Followed(result.motion, result.metrics, result.scene)
