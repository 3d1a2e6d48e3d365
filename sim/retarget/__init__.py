"""Retargeting: motions of people and of other sources as motions of a robot."""

from sim.retarget.config import RetargetConfig
from sim.retarget.lafan1 import load_lafan1
from sim.retarget.metrics import motion_metrics
from sim.retarget.retarget import Retargeted, retarget, retarget_clip

__all__ = ["RetargetConfig", "Retargeted", "load_lafan1", "motion_metrics", "retarget", "retarget_clip"]
