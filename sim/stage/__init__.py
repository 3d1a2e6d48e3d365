"""Stages: MuJoCo scenes with a robot and the motion that it is to repeat."""

from sim.stage.builder import StageConfig, build_stage
from sim.stage.flat import flat_stage
from sim.stage.stage import CONTROL_HZ, PHYSICS_DT, Stage

__all__ = ["CONTROL_HZ", "PHYSICS_DT", "Stage", "StageConfig", "build_stage", "flat_stage"]
