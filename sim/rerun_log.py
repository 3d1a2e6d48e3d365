"""Stages and runs in the rerun viewer: the robot's bodies over time on the stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
import rerun as rr
import trimesh

from bodydouble.errors import InputError
from sim.stage.stage import Stage

TIMELINE = "time"
"""Name of the timeline: seconds since the start."""
SHOWN_HZ = 25.0
"""Rate at which a motion is shown, Hz."""
_COLLISION_GROUP = 3
_PLANE_M = 10.0


def log_stage(folder: Path) -> None:
    """Log a stage with its robot moving along the reference.

    Raises:
        InputError: The folder is no stage.
    """
    stage = Stage.load(folder)
    reference = stage.reference
    qpos = np.concatenate([reference.root_pos, reference.root_quat, reference.joint_pos], axis=1)
    _log_motion(stage, qpos, np.arange(len(qpos)) / reference.fps, "reference")


def log_run(folder: Path, stage: Path) -> None:
    """Log a recorded run: the robot's true motion on its stage, and the tracking error.

    Args:
        folder: The run's folder, with tracking.npz.
        stage: The stage's folder.

    Raises:
        InputError: A file is missing or damaged.
    """
    try:
        with np.load(folder / "tracking.npz", allow_pickle=False) as data:
            t_s, qpos, error = data["t_s"], data["qpos"], data["body_error_m"]
    except (OSError, ValueError, KeyError) as reason:
        raise InputError(f"{folder / 'tracking.npz'}: cannot be read ({reason}); run again") from None
    _log_motion(Stage.load(stage), qpos, t_s, "robot")
    rr.send_columns(
        "tracking/body_error_m",
        indexes=[rr.TimeColumn(TIMELINE, duration=t_s)],
        columns=rr.Scalars.columns(scalars=error),
    )


def _log_motion(stage: Stage, qpos: np.ndarray, t_s: np.ndarray, name: str) -> None:
    model = stage.compile()
    data = mujoco.MjData(model)
    rr.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    moving: dict[int, str] = {}
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        if model.geom_group[geom] >= _COLLISION_GROUP:
            continue
        path = "stage" if body == 0 else f"{name}/{model.body(body).name}"
        if body:
            moving[body] = path
        mesh = _geom_mesh(model, geom)
        color = (255 * model.geom_rgba[geom]).astype(np.uint8)
        rr.log(
            f"{path}/geom_{geom}",
            rr.Mesh3D(
                vertex_positions=mesh.vertices,
                triangle_indices=mesh.faces,
                vertex_normals=mesh.vertex_normals,
                albedo_factor=color,
            ),
            static=True,
        )
    step = max(1, round(1 / SHOWN_HZ / float(np.median(np.diff(t_s)))))
    for index in range(0, len(qpos), step):
        data.qpos[: qpos.shape[1]] = qpos[index]
        mujoco.mj_kinematics(model, data)
        rr.set_time(TIMELINE, duration=float(t_s[index]))
        for body, path in moving.items():
            rr.log(path, rr.Transform3D(translation=data.xpos[body], mat3x3=data.xmat[body].reshape(3, 3)))


def _geom_mesh(model: mujoco.MjModel, geom: int) -> trimesh.Trimesh:
    """Return a geom's surface in its body's frame."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = _mesh(model, int(model.geom_dataid[geom]))
    elif kind == mujoco.mjtGeom.mjGEOM_PLANE:
        extent = [2 * (value if value > 0 else _PLANE_M) for value in size[:2]]
        mesh = trimesh.creation.box(extents=[*extent, 1e-3])
    elif kind == mujoco.mjtGeom.mjGEOM_BOX:
        mesh = trimesh.creation.box(extents=2 * size)
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        mesh = trimesh.creation.capsule(radius=size[0], height=2 * size[1])
        mesh.apply_translation([0, 0, -mesh.bounds.mean(axis=0)[2]])
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        mesh = trimesh.creation.cylinder(radius=size[0], height=2 * size[1])
    else:
        mesh = trimesh.creation.icosphere(subdivisions=2)
        mesh.apply_scale(size if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID else size[0])
    transform = np.eye(4)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    transform[:3, :3], transform[:3, 3] = rotation.reshape(3, 3), model.geom_pos[geom]
    mesh.apply_transform(transform)
    return mesh


def _mesh(model: mujoco.MjModel, mesh: int) -> trimesh.Trimesh:
    vertices = _slice(model.mesh_vert, model.mesh_vertadr, model.mesh_vertnum, mesh)
    faces = _slice(model.mesh_face, model.mesh_faceadr, model.mesh_facenum, mesh)
    return trimesh.Trimesh(vertices.copy(), faces.copy(), process=False)


def _slice(values: np.ndarray, starts: Sequence[int], counts: Sequence[int], index: int) -> np.ndarray:
    return values[starts[index] : starts[index] + counts[index]]
