"""Sketches of a made room and a made person, without a recording, a scene fusion or a joint network between."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

import numpy as np
import open3d as o3d

from bodydouble.frames import make_se3, se3_apply
from perception.multiview.paths import JointPath
from perception.multiview.sketch import Sketch
from perception.multiview.yaw import yaw_matrix
from perception.scene_frames import Frame
from perception.synthetic.cameras import intrinsics, look_at
from perception.synthetic.room import Mesh
from tests.perception.small_scenes import true_scene

SIZE = (160, 120)
JOINTS = 12


def displaced(yaw: float, x: float, y: float, z: float = 0.0) -> np.ndarray:
    """T_view_world (4, 4): a camera's own world, upright, turned and shifted."""
    return make_se3(yaw_matrix(yaw), np.array([x, y, z]))


def motion(times_s: np.ndarray, *, seed: int = 0, still: bool = False) -> np.ndarray:
    """Joints (T, J, 3), world, m, of somebody who walks to and fro, turns and waves, or of one who stands still."""
    rng = np.random.default_rng(seed)
    body = rng.uniform([-0.25, -0.12, 0.1], [0.25, 0.12, 1.7], size=(JOINTS, 3))
    t = times_s[:, None]
    if still:
        return np.broadcast_to(body, (len(times_s), JOINTS, 3)).copy()
    # Waves of unrelated periods, so that no moment is like another.
    heading = 0.8 * np.sin(0.7 * t[:, 0]) + 0.5 * np.sin(1.9 * t[:, 0] + 1)
    turned = np.einsum("tij,nj->tni", yaw_matrix(heading), body)
    place = np.stack([0.6 * np.sin(0.53 * t[:, 0]), 0.5 * np.sin(0.83 * t[:, 0] + 2), 0 * t[:, 0]], axis=-1)
    sway = 0.08 * np.sin(t[..., None] * rng.uniform(2, 5, (JOINTS, 3)) + rng.uniform(0, 6, (JOINTS, 3)))
    return turned + place[:, None] + sway


def path(
    times_s: np.ndarray, T_view_world: np.ndarray, offset_s: float = 0.0, *, noise_m: float = 0.0, seed: int = 0,
    still: bool = False, bias_m: float = 0.0,
) -> JointPath:  # fmt: skip
    """What a camera sees of the person: at true times, stamped with its own clock, in its own world.

    Args:
        times_s: True times (T,), s.
        T_view_world: The camera's own world.
        offset_s: How much its clock is ahead, s.
        noise_m: Noise of each joint, m.
        seed: Seed of noise and bias.
        still: Whether the person stands still.
        bias_m: Size of a constant error of each joint, m.
    """
    rng = np.random.default_rng(1000 + seed)
    joints = motion(times_s, still=still) + rng.normal(0, 1, (JOINTS, 3)) * bias_m
    joints = joints + rng.normal(0, 1, (len(times_s), JOINTS, 3)) * noise_m
    return JointPath(times_s + offset_s, se3_apply(T_view_world, joints), np.full(joints.shape[:2], 0.02))


def sketch(
    mesh: Mesh, eye: tuple[float, float, float], targets: list[tuple[float, float, float]],
    T_view_world: np.ndarray, joint_path: JointPath | None = None, *, name: str = "camera",
) -> Sketch:  # fmt: skip
    """What a camera at one place saw when it looked at the targets, in its own world."""
    K = intrinsics(*SIZE)
    caster = true_scene(mesh).raycaster()
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    local = np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones(rows.shape)], axis=-1)
    at = np.asarray(targets, dtype=np.float64)
    poses = look_at(np.tile(np.asarray(eye, dtype=np.float64), (len(at), 1)), at, np.zeros(len(at)))
    frames, points, normals = [], [], []
    for pose in poses:
        rays = local @ pose[:3, :3].T
        origin = np.broadcast_to(pose[:3, 3], rays.shape)
        cast = caster.cast_rays(o3d.core.Tensor(np.concatenate([origin, rays], axis=-1).astype(np.float32)))
        depth, normal = cast["t_hit"].numpy().astype(np.float64), cast["primitive_normals"].numpy().astype(np.float64)
        seen = np.isfinite(depth) & (depth < 5)
        depth_mm = np.where(seen, np.round(1000 * np.where(seen, depth, 0)), 0).astype(np.uint16)
        frames.append(Frame(depth_mm, np.zeros((0, 0, 3), np.uint8), K, T_view_world @ pose))
        points.append((pose[:3, 3] + rays * depth[..., None])[seen])
        towards = np.where((normal * rays).sum(axis=-1, keepdims=True) > 0, -normal, normal)
        normals.append(towards[seen])
    everything, facing = np.concatenate(points), np.concatenate(normals)
    _, first = np.unique(np.floor(everything / 0.04).astype(np.int64), axis=0, return_index=True)
    return Sketch(
        name, se3_apply(T_view_world, everything[first]), facing[first] @ T_view_world[:3, :3].T, tuple(frames),
        joint_path, 100,
    )  # fmt: skip


def pose_error(found: np.ndarray, truth: np.ndarray, at: np.ndarray) -> tuple[float, float]:
    """Rotation error in degrees, and the error in m of where a point (3,) comes to lie."""
    turn = found[:3, :3] @ truth[:3, :3].T
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return float(angle), float(np.linalg.norm(se3_apply(found, at[None]) - se3_apply(truth, at[None])))
