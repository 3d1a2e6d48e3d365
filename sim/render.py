"""Pictures of a stage with its robot, off screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from bodydouble.errors import InputError
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


def stage_picture(folder: Path, moments: int = 6) -> np.ndarray:
    """Return the robot on its stage at moments of the reference, three beside each other (H, W, 3), uint8.

    Raises:
        InputError: The folder is no stage.
    """
    stage = Stage.load(folder)
    motion = stage.reference
    frames = ((np.arange(moments) + 0.5) / moments * motion.num_frames).astype(int)
    states = np.concatenate([motion.root_pos, motion.root_quat, motion.joint_pos], axis=1)[frames]
    return _grid(render_stage(stage, list(states)), 3)


def run_picture(folder: Path, stage: Path, moments: int = 6) -> np.ndarray:
    """Return the robot as it moved in a recorded run, three moments beside each other (H, W, 3), uint8.

    Args:
        folder: The run's folder, with tracking.npz.
        stage: Folder of its stage.
        moments: Number of moments.

    Raises:
        InputError: A file is missing or damaged.
    """
    try:
        with np.load(folder / "tracking.npz", allow_pickle=False) as data:
            states = data["qpos"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / 'tracking.npz'}: cannot be read ({error}); run again") from None
    frames = ((np.arange(moments) + 0.5) / moments * len(states)).astype(int)
    return _grid(render_stage(Stage.load(stage), list(states[frames])), 3)


def _grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    rows = [np.concatenate(pictures[start : start + columns], axis=1) for start in range(0, len(pictures), columns)]
    return np.concatenate(rows)
