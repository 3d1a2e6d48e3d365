"""Pictures of a stage with its robot, off screen."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco

from sim.stage.stage import Stage


def render_stage(
    stage: Stage,
    qpos: Sequence[np.ndarray],
    size: tuple[int, int] = (480, 360),
    azimuth: float = 135.0,
    distance: float = 3.2,
) -> list[np.ndarray]:
    """Return pictures (H, W, 3), uint8, of the stage at given states, the camera following the robot.

    Args:
        stage: The stage.
        qpos: States (nq,), one per picture.
        size: Width and height, pixels.
        azimuth: Direction the camera looks along, degrees.
        distance: Distance of the camera to the robot, m.
    """
    model = stage.compile()
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, size[0])
    model.vis.global_.offheight = max(model.vis.global_.offheight, size[1])
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = azimuth, -15.0, distance
    option = mujoco.MjvOption()
    option.geomgroup[3] = 0
    pictures = []
    with mujoco.Renderer(model, size[1], size[0]) as renderer:
        for state in qpos:
            data.qpos[: len(state)] = state
            mujoco.mj_forward(model, data)
            camera.lookat[:] = [data.qpos[0], data.qpos[1], 0.75]
            renderer.update_scene(data, camera, option)
            pictures.append(renderer.render().copy())
    return pictures
