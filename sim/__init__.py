"""Simulation: robots, stages, retargeting, environments and the sim-to-sim gate."""

import os
import sys

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    # MuJoCo picks its renderer when it is imported; without a display only EGL works.
    os.environ.setdefault("MUJOCO_GL", "egl")
