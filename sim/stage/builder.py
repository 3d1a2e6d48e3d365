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
from sim.retarget.metrics import motion_metrics
from sim.retarget.retarget import retarget_clip
from sim.robots import RobotSpec, robot_spec
from sim.stage.collision import Collision, build_collision
from sim.stage.convex import ConvexConfig
from sim.stage.figures import model_figures
from sim.stage.floor import Floor, find_floor
from sim.stage.furniture import Box, FurnitureConfig
from sim.stage.geoms import BOX_PREFIX, add_static, add_visual
from sim.stage.movable import (
    Movable,
    MovableConfig,
    add_movable,
    extend_keys,
    make_movable,
    object_faces,
    object_reports,
    settle,
    support_below,
    wanted_objects,
)
from sim.stage.room_parts import LABELS_FILE, PARTS_FILE, RoomParts, load_parts
from sim.stage.scene_mesh import SceneMesh, load_scene, split_by_color, thin_out
from sim.stage.stage import MANIFEST_FILE, PHYSICS_DT, Stage
from sim.stage.stand import StandConfig, free_place, standing_motion
from sim.stage.write import add_floor, write_stage

SCENE_FILE = "scene.ply"
"""The reconstruction's scene mesh."""
HUMAN_FILE = "human.npz"
"""The reconstruction's person."""


@dataclass(frozen=True)
class StageConfig:
    """How a reconstruction becomes a stage."""

    robot: str = "unitree_g1"
    """A robot's name, or the path of an MJCF file."""
    motion: Literal["person", "stand"] = "person"
    """The reference: the person's motion, or standing still at a free place, for rooms without a person."""
    retarget: RetargetConfig = field(default_factory=RetargetConfig)
    """How the person's motion becomes the robot's."""
    stand: StandConfig = field(default_factory=StandConfig)
    """Where and how long the robot stands, where it stands."""
    furniture: FurnitureConfig = field(default_factory=FurnitureConfig)
    """How the scene becomes boxes."""
    collision: Literal["boxes", "convex"] = "boxes"
    """What furniture is for collisions: upright boxes, or convex pieces that follow its shape."""
    convex: ConvexConfig = field(default_factory=ConvexConfig)
    """How furniture becomes convex pieces, where it does."""
    movable: MovableConfig = field(default_factory=MovableConfig)
    """Which objects can be pushed."""
    visual_cell_m: float = 0.025
    """Detail of the mesh that is shown, m."""
    visual_colors: int = 12
    """Number of colours of the mesh that is shown."""


def build_stage(reconstruction: Path, out: Path, config: StageConfig | None = None) -> Stage:
    """Write the stage of a reconstruction; a stage made from the same files and settings is left as it is.

    The scene is turned so that its floor is level and at height zero. Furniture is where it was seen: nothing is
    moved out of the robot's way, and the figures say how deep the reference motion enters it.

    Args:
        reconstruction: Folder with scene.ply, and human.npz where the reference is the person's motion.
        out: Folder of the stage.
        config: Settings.

    Raises:
        InputError: The folder lacks a file, the scene has no floor or no free place, or the person cannot be
            retargeted.
    """
    config = config or StageConfig()
    reconstruction, out = Path(reconstruction), Path(out)
    inputs = _inputs(reconstruction, config)
    if is_current(out / MANIFEST_FILE, inputs_hash(config, inputs)):
        return Stage.load(out)
    robot = robot_spec(config.robot)
    world_mesh = load_scene(inputs["scene"])
    floor = find_floor(world_mesh)
    parts = load_parts(reconstruction, world_mesh, floor.T_stage_world)
    mesh = world_mesh.transformed(floor.T_stage_world).facing_up(floor.faces_up)
    motion, figures, placement = _reference(inputs, mesh, floor, robot, config)
    path = motion.root_pos[:, :2]
    wanted = wanted_objects(mesh, parts, config.movable)
    collision, movable, refused, masses = _geometry(mesh, parts, path, wanted, config)

    spec = robot.mjspec(PHYSICS_DT)
    add_floor(spec)
    add_static(spec, collision.boxes, collision.hulls)
    bodies = [add_movable(spec, thing, config.movable.density) for thing in movable]
    extend_keys(spec, movable)
    figures |= collision.figures | {
        "floor_tilt_deg": floor.tilt_deg,
        "floor_height_m": floor.height_m,
        "floor_residual_mm": floor.residual_mm,
        "floor_area_m2": floor.area_m2,
    }
    figures |= scene_penetration(robot, collision.boxes, motion, collision.hulls)
    figures |= model_figures(spec.copy(), robot, motion)
    figures["movable_objects"] = float(len(movable))
    moving = np.any([thing.faces for thing in movable], axis=0) if movable else np.zeros(len(mesh.faces), dtype=bool)
    fixed = thin_out(_flat_floor(dataclasses.replace(mesh, faces=mesh.faces[~moving])), config.visual_cell_m)
    meshes = {}
    for i, (color, piece) in enumerate(split_by_color(fixed, config.visual_colors)):
        meshes[f"scene_{i:02d}.stl"] = piece
        add_visual(spec, f"scene_{i:02d}", color)
    for thing, body in zip(movable, bodies, strict=True):
        own = SceneMesh(mesh.vertices - thing.origin, mesh.faces[thing.faces], mesh.colors)
        for i, (color, piece) in enumerate(split_by_color(own, 3)):
            meshes[f"{thing.name}_seen_{i}.stl"] = piece
            add_visual(spec, f"{thing.name}_seen_{i}", color, body)
    placement |= {
        "T_stage_world": floor.T_stage_world,
        "motion": config.motion,
        "objects": [vars(report) for report in object_reports(mesh, parts, movable, refused, masses)],
    }
    return write_stage(
        spec, robot, [motion], out, config=config, inputs=inputs, figures=figures, meshes=meshes, extra=placement
    )


def _inputs(reconstruction: Path, config: StageConfig) -> dict[str, Path]:
    """Return the files that a stage is made from.

    Raises:
        InputError: One is missing.
    """
    inputs = {"scene": reconstruction / SCENE_FILE}
    if not inputs["scene"].is_file():
        raise InputError(f"{inputs['scene']}: no such file; make it with `bodydouble reconstruct`")
    if config.motion == "person":
        inputs["human"] = reconstruction / HUMAN_FILE
        if not inputs["human"].is_file():
            raise InputError(
                f"{inputs['human']}: no such file, nobody moves in this recording; a stage needs a person's motion, or "
                "a robot that stands still: --config.motion stand"
            )
    return inputs | {
        name: reconstruction / name for name in (PARTS_FILE, LABELS_FILE) if (reconstruction / name).is_file()
    }


def _reference(
    inputs: dict[str, Path], mesh: SceneMesh, floor: Floor, robot: RobotSpec, config: StageConfig
) -> tuple[RobotMotion, dict[str, float], dict[str, Any]]:
    """Return the reference motion, its figures, and what the manifest says of its making."""
    if config.motion == "stand":
        place = free_place(mesh, config.stand, config.furniture.min_height_m, config.furniture.max_height_m)
        motion = standing_motion(robot, place, config.stand.seconds)
        figures = motion_metrics(motion, robot) | {"stand_clearance_m": place.clearance_m}
        return motion, figures, {"stand": vars(place)}
    human = transform_human(HumanMotion.load(inputs["human"]), floor.T_stage_world)
    result = retarget_clip(human, robot, config.retarget)
    placement = {
        "clip_start": result.clip_start,
        "clip_end": result.clip_end,
        "time_stretch": config.retarget.time_stretch,
        "leg_ratio": result.leg_ratio,
        "path_scale": result.path_scale,
        "path_anchor": result.path_anchor,
    }
    return result.motion, result.metrics | _feet_figures(human), placement


def _geometry(
    mesh: SceneMesh, parts: RoomParts | None, path: np.ndarray, wanted: list[int], config: StageConfig
) -> tuple[Collision, list[Movable], dict[int, str], dict[int, float]]:
    """Return the fixed geometry and the objects that move on it; what does not rest becomes fixed again."""
    convex = config.convex if config.collision == "convex" else None
    refused: dict[int, str] = {}
    while True:
        chosen = [number for number in wanted if number not in refused]
        if not chosen or parts is None:
            return build_collision(mesh, parts, path, config.furniture, convex), [], refused, {}
        loose = np.any([object_faces(mesh, parts, number) for number in chosen], axis=0)
        support = support_below(mesh, parts, chosen, 0.5 * config.furniture.cell_m)
        collision = build_collision(mesh, parts, path, config.furniture, convex, loose=loose, support=support)
        things: list[Movable] = []
        for number in chosen:
            thing = make_movable(number, mesh, parts, collision.boxes, collision.hulls, config.convex)
            if thing is None:
                refused[number] = "too little of it was seen"
            else:
                things.append(thing)
        movable, fallen, masses = settle(things, collision.boxes, collision.hulls, config.movable, PHYSICS_DT)
        refused |= fallen
        if len(movable) == len(chosen):
            return collision, movable, refused, masses


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
    robot: RobotSpec, boxes: Sequence[Box], motion: RobotMotion, hulls: Sequence[np.ndarray] = ()
) -> dict[str, float]:
    """Return how deep the reference motion enters the furniture.

    Returns:
        scene_penetration_start_mm: in the first frame, where the simulation begins.
        scene_penetration_max_mm: over every second frame.
        scene_contact_share: share of these frames that touch furniture.
    """
    spec = robot.mjspec(PHYSICS_DT, visuals=False)
    add_static(spec, boxes, hulls)
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


def _flat_floor(mesh: SceneMesh) -> SceneMesh:
    """Return the mesh with its noisy floor just above the floor plane, so that the plane does not show through."""
    vertices = mesh.vertices.copy()
    near = np.abs(vertices[:, 2]) < 0.03
    vertices[near, 2] = 0.002
    return dataclasses.replace(mesh, vertices=vertices)


def _feet_figures(human: HumanMotion) -> dict[str, float]:
    feet = [i for i, name in enumerate(human.contact_names) if name.endswith("foot")]
    standing = human.contact[:, feet] > 0.5
    if not standing.any():
        return {}
    return {"feet_over_floor_mm": 1000.0 * float(np.median(human.contact_pos[:, feet, 2][standing]))}


def stage_mesh(stage: Stage, reconstruction: Path) -> SceneMesh:
    """Return the full reconstructed mesh in the stage's frame."""
    return load_scene(Path(reconstruction) / SCENE_FILE).transformed(np.array(stage.manifest["T_stage_world"]))
