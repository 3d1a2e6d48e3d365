"""From a Reconstruction to a Stage: floor, furniture, the robot, and the person's motion retargeted to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

from bodydouble.artifacts import inputs_hash, is_current
from bodydouble.errors import InputError
from bodydouble.frames import quat_from_matrix, quat_mul, se3_apply
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.config import RetargetConfig
from sim.retarget.kinematics import kinematics
from sim.retarget.retarget import retarget_clip
from sim.robots import RobotSpec, robot_spec
from sim.stage.convex import ConvexConfig, convex_pieces
from sim.stage.floor import Floor, find_floor
from sim.stage.furniture import Box, FurnitureConfig, furniture_boxes, furniture_cells
from sim.stage.scene_mesh import SceneMesh, load_scene, split_by_color, thin_out
from sim.stage.stage import MANIFEST_FILE, PHYSICS_DT, Stage
from sim.stage.write import add_floor, write_stage

SCENE_FILE = "scene.ply"
"""The reconstruction's scene mesh."""
HUMAN_FILE = "human.npz"
"""The reconstruction's person."""
BOX_PREFIX = "furniture"
"""Names of the furniture's geoms begin with this."""


@dataclass(frozen=True)
class StageConfig:
    """How a reconstruction becomes a stage."""

    robot: str = "unitree_g1"
    """A robot's name, or the path of an MJCF file."""
    retarget: RetargetConfig = field(default_factory=RetargetConfig)
    """How the person's motion becomes the robot's."""
    furniture: FurnitureConfig = field(default_factory=FurnitureConfig)
    """How the scene becomes boxes."""
    collision: Literal["boxes", "convex"] = "boxes"
    """What furniture is for collisions: upright boxes, or convex pieces that follow its shape."""
    convex: ConvexConfig = field(default_factory=ConvexConfig)
    """How furniture becomes convex pieces, where it does."""
    visual_cell_m: float = 0.025
    """Detail of the mesh that is shown, m."""
    visual_colors: int = 12
    """Number of colours of the mesh that is shown."""


def build_stage(reconstruction: Path, out: Path, config: StageConfig | None = None) -> Stage:
    """Write the stage of a reconstruction; a stage made from the same files and settings is left as it is.

    The scene is turned so that its floor is level and at height zero. Furniture is where it was seen: nothing is
    moved out of the robot's way, and the figures say how deep the reference motion enters it.

    Args:
        reconstruction: Folder with scene.ply and human.npz.
        out: Folder of the stage.
        config: Settings.

    Raises:
        InputError: The folder lacks a file, the scene has no floor, or the person cannot be retargeted.
    """
    config = config or StageConfig()
    reconstruction, out = Path(reconstruction), Path(out)
    inputs = {"scene": reconstruction / SCENE_FILE, "human": reconstruction / HUMAN_FILE}
    for path in inputs.values():
        if path == inputs["human"] and inputs["scene"].is_file() and not path.is_file():
            raise InputError(f"{path}: no such file, nobody moves in this recording; a stage needs a person's motion")
        if not path.is_file():
            raise InputError(f"{path}: no such file; make it with `bodydouble reconstruct`")
    if is_current(out / MANIFEST_FILE, inputs_hash(config, inputs)):
        return Stage.load(out)
    robot = robot_spec(config.robot)
    mesh = load_scene(inputs["scene"])
    floor = find_floor(mesh)
    mesh = mesh.transformed(floor.T_stage_world)
    human = transform_human(HumanMotion.load(inputs["human"]), floor.T_stage_world)
    result = retarget_clip(human, robot, config.retarget)
    path = result.motion.root_pos[:, :2]
    boxes, hulls = [], []
    if config.collision == "convex":
        cells, to_grid, _ = furniture_cells(mesh, path, config.furniture)
        pieces, figures = convex_pieces(cells, config.furniture.cell_m, path @ to_grid[:2, :2].T, config.convex)
        hulls = [piece @ to_grid for piece in pieces]
    else:
        boxes, figures = furniture_boxes(mesh, path, config.furniture)

    spec = robot.mjspec(PHYSICS_DT)
    add_floor(spec)
    _add_boxes(spec, boxes)
    _add_hulls(spec, hulls)
    figures |= result.metrics | _floor_figures(floor, human)
    figures |= scene_penetration(robot, boxes, result.motion, hulls)
    placement = {
        "T_stage_world": floor.T_stage_world,
        "clip_start": result.clip_start,
        "clip_end": result.clip_end,
        "time_stretch": config.retarget.time_stretch,
        "leg_ratio": result.leg_ratio,
        "path_scale": result.path_scale,
        "path_anchor": result.path_anchor,
    }
    pieces = split_by_color(_flat_floor(thin_out(mesh, config.visual_cell_m)), config.visual_colors)
    meshes = {f"scene_{i:02d}.stl": piece for i, (_, piece) in enumerate(pieces)}
    for i, (color, _) in enumerate(pieces):
        _add_visual(spec, f"scene_{i:02d}", color)
    return write_stage(
        spec, robot, [result.motion], out, config=config, inputs=inputs, figures=figures, meshes=meshes, extra=placement
    )


def transform_human(human: HumanMotion, T_to_from: np.ndarray) -> HumanMotion:
    """Return a person's motion moved by a 4x4 transform; the first bone of the pose is the one against the world."""
    turn = quat_from_matrix(T_to_from[:3, :3])
    pose = human.pose.copy()
    if pose.shape[1]:
        pose[:, 0] = quat_mul(turn, pose[:, 0])
    return dataclasses.replace(
        human,
        joint_pos=se3_apply(T_to_from, human.joint_pos),
        joint_quat=quat_mul(np.broadcast_to(turn, human.joint_quat.shape), human.joint_quat),
        contact_pos=se3_apply(T_to_from, human.contact_pos),
        root_pos=se3_apply(T_to_from, human.root_pos),
        pose=pose,
    )


def scene_penetration(
    robot: RobotSpec, boxes: list[Box], motion: RobotMotion, hulls: Sequence[np.ndarray] = ()
) -> dict[str, float]:
    """Return how deep the reference motion enters the furniture.

    Returns:
        scene_penetration_start_mm: in the first frame, where the simulation begins.
        scene_penetration_max_mm: over every second frame.
        scene_contact_share: share of these frames that touch furniture.
    """
    spec = robot.mjspec(PHYSICS_DT, visuals=False)
    _add_boxes(spec, boxes)
    _add_hulls(spec, hulls)
    model = spec.compile()
    data = mujoco.MjData(model)
    qpos = kinematics(robot).qpos(motion.root_pos, motion.root_quat, motion.joint_pos)
    box_ids = [i for i in range(model.ngeom) if model.geom(i).name.startswith(BOX_PREFIX)]
    depths = []
    for q in qpos[::2]:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        touching = np.isin(data.contact.geom, box_ids).any(axis=1) if data.ncon else np.zeros(0, bool)
        depths.append(-float(data.contact.dist[touching].min()) if touching.any() else 0.0)
    return {
        "scene_penetration_start_mm": 1000.0 * max(0.0, depths[0]),
        "scene_penetration_max_mm": 1000.0 * max(0.0, *depths),
        "scene_contact_share": float(np.mean(np.array(depths) > 0)),
    }


def _add_boxes(spec: mujoco.MjSpec, boxes: list[Box]) -> None:
    for i, box in enumerate(boxes):
        spec.worldbody.add_geom(
            name=f"{BOX_PREFIX}_{i:03d}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=box.centre,
            size=box.half,
            quat=[np.cos(0.5 * box.yaw), 0.0, 0.0, np.sin(0.5 * box.yaw)],
            condim=3,
            group=3,
            rgba=[0.45, 0.55, 0.75, 0.35],
        )


def _add_hulls(spec: mujoco.MjSpec, hulls: Sequence[np.ndarray]) -> None:
    for i, vertices in enumerate(hulls):
        name = f"{BOX_PREFIX}_{i:03d}"
        # Vertices stand in the model itself; MuJoCo makes the hull.
        spec.add_mesh(name=name, uservert=vertices.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
        spec.worldbody.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            condim=3,
            group=3,
            rgba=[0.45, 0.55, 0.75, 0.35],
        )


def _add_visual(spec: mujoco.MjSpec, name: str, color: np.ndarray) -> None:
    # A scan has no inside: its inertia is that of its surface, and nothing weighs it anyway.
    spec.add_mesh(name=name, file=f"{name}.stl", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    spec.worldbody.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        contype=0,
        conaffinity=0,
        group=2,
        density=0.0,
        rgba=[*color, 1.0],
    )


def _flat_floor(mesh: SceneMesh) -> SceneMesh:
    """Return the mesh with its noisy floor just above the floor plane, so that the plane does not show through."""
    vertices = mesh.vertices.copy()
    near = np.abs(vertices[:, 2]) < 0.03
    vertices[near, 2] = 0.002
    return dataclasses.replace(mesh, vertices=vertices)


def _floor_figures(floor: Floor, human: HumanMotion) -> dict[str, float]:
    figures: dict[str, Any] = {
        "floor_tilt_deg": floor.tilt_deg,
        "floor_height_m": floor.height_m,
        "floor_residual_mm": floor.residual_mm,
        "floor_area_m2": floor.area_m2,
    }
    feet = [i for i, name in enumerate(human.contact_names) if name.endswith("foot")]
    standing = human.contact[:, feet] > 0.5
    if standing.any():
        figures["feet_over_floor_mm"] = 1000.0 * float(np.median(human.contact_pos[:, feet, 2][standing]))
    return figures


def stage_mesh(stage: Stage, reconstruction: Path) -> SceneMesh:
    """Return the full reconstructed mesh in the stage's frame."""
    return load_scene(Path(reconstruction) / SCENE_FILE).transformed(np.array(stage.manifest["T_stage_world"]))
