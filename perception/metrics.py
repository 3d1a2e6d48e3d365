"""Metrics of a reconstruction against ground truth: the scene's F-score, the person's world-frame joint errors."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import open3d as o3d
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from bodydouble.frames import se3_apply, se3_inverse
from bodydouble.motion import HumanMotion
from perception.camera_metrics import (
    FoundCameras,
    camera_figures,
    nearest_index,
    rigid_aligned,
    similarity,
    true_offset_ns,
    true_poses,
    world_alignment,
)
from sim.stage.scene_mesh import load_scene

CHUNK = 100
"""Frames of a chunk of the world-frame metrics."""
LONG_CHUNK = 500
"""Frames of a long chunk."""
SAMPLES = 200_000
"""Points sampled on each surface for the scene's metrics."""
EVALUATED_JOINTS = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "spine2", "neck", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
"""Joints that are evaluated."""


def chunk_error(found: np.ndarray, truth: np.ndarray, chunk: int, align_frames: int | None) -> float:
    """Return the mean joint error after aligning each chunk by a similarity, in the inputs' unit.

    Args:
        found: Joints (T, J, 3).
        truth: True joints (T, J, 3).
        chunk: Frames of a chunk; a last, shorter one counts when it has at least two frames.
        align_frames: Frames of each chunk that are aligned: 2 gives W-MPJPE, None (all) gives WA-MPJPE.
    """
    errors = []
    for start in range(0, len(found), chunk):
        a, b = found[start : start + chunk], truth[start : start + chunk]
        if len(a) < 2:
            continue
        scale, rotation, shift = similarity(a[:align_frames].reshape(-1, 3), b[:align_frames].reshape(-1, 3))
        errors.append(np.linalg.norm(scale * a @ rotation.T + shift - b, axis=-1).ravel())
    return float(np.concatenate(errors).mean())


def rte_percent(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean error of root positions after a rigid alignment, in percent of the true path's length.

    Args:
        found: Root positions (T, 3).
        truth: True root positions (T, 3).

    Raises:
        InputError: The true root does not move, so that the share is not defined.
    """
    path = float(np.linalg.norm(np.diff(truth, axis=0), axis=1).sum())
    if path <= 0:
        raise InputError("the true root does not move; the root translation error in percent is not defined")
    return 100 * float(np.linalg.norm(rigid_aligned(found, truth) - truth, axis=1).mean()) / path


def contact_f1(found: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the F1 of contacts over all parts together (micro), and of each part.

    Args:
        found: Whether each part touches (T, P), bool.
        truth: The same in truth (T, P), bool.

    Returns:
        F1 of all parts, NaN where nothing touches in either; F1 of each part (P,), NaN likewise.
    """
    hit = (found & truth).sum(axis=0)
    wrong = (found ^ truth).sum(axis=0)
    with np.errstate(invalid="ignore"):
        parts = 2 * hit / np.asarray(2 * hit + wrong, dtype=np.float64)
    total = float(2 * hit.sum() + wrong.sum())
    return (2 * float(hit.sum()) / total if total else float("nan")), parts


def fscore(found: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Return F-score, precision and recall of two point sets (N, 3) at a distance."""
    precision = float((cKDTree(truth).query(found)[0] <= threshold).mean())
    recall = float((cKDTree(found).query(truth)[0] <= threshold).mean())
    return 2 * precision * recall / max(precision + recall, 1e-12), precision, recall


def sample_surface(vertices: np.ndarray, triangles: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return points (count, 3) spread evenly over a mesh."""
    corner = vertices[triangles]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    rng = np.random.default_rng(seed)
    face = rng.choice(len(triangles), count, p=area / area.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corner[face, 0], corner[face, 1], corner[face, 2]
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def seen_points(
    points: np.ndarray,
    vertices: np.ndarray,
    triangles: np.ndarray,
    poses: np.ndarray,
    K: np.ndarray,
    size: tuple[int, int],
    reach_m: float,
) -> np.ndarray:
    """Return which points (N, 3) on a mesh at least one camera saw: in view, near enough, nothing before them.

    Args:
        points: Points on the mesh.
        vertices: The mesh (V, 3).
        triangles: Its triangles (F, 3).
        poses: Camera poses (P, 4, 4).
        K: Intrinsics (3, 3).
        size: Width and height, pixels.
        reach_m: Farthest depth of the camera, m.
    """  # fmt: skip
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    seen = np.zeros(len(points), dtype=bool)
    for pose in poses:
        left = np.flatnonzero(~seen)
        inverse = se3_inverse(pose)
        local = points[left] @ inverse[:3, :3].T + inverse[:3, 3]
        z = np.where(local[:, 2] > 0.2, local[:, 2], np.nan)
        u = K[0, 0] * local[:, 0] / z + K[0, 2]
        v = K[1, 1] * local[:, 1] / z + K[1, 2]
        with np.errstate(invalid="ignore"):
            inside = (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1]) & (z < reach_m)
        index = left[inside]
        ray = points[index] - pose[:3, 3]
        cast = scene.cast_rays(
            o3d.core.Tensor(np.concatenate([np.tile(pose[:3, 3], (len(index), 1)), ray], axis=1).astype(np.float32))
        )
        # The ray has the length of the way: a hit at 1 is the point itself.
        seen[index[cast["t_hit"].numpy() > 1 - 0.01]] = True
    return seen


def evaluate(reconstruction: Path, truth: Path) -> dict[str, float]:
    """Return the metrics of a reconstruction against a synthetic recording's truth.

    Where the recording had no camera poses, the reconstruction's world differs from the true one by a rigid motion. It
    is found from the cameras alone (`world_alignment`), never from the person, and undone before person and scene are
    compared. The scene counts where some camera could see it (cast from the true poses); joints are compared at the
    reconstruction's frames, the truth interpolated.

    Args:
        reconstruction: The reconstruction's folder.
        truth: truth.npz of the recording.

    Raises:
        InputError: A file is missing or of another kind.
    """
    try:
        with np.load(truth, allow_pickle=False) as data:
            true = {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{truth}: cannot be read as truth ({error})") from None
    has_person = (reconstruction / "human.npz").is_file()
    needed = ["scene_vertices", "scene_triangles", *(["human_times_ns", "human_joint_pos"] if has_person else [])]
    missing = [name for name in needed if name not in true]
    if missing:
        raise InputError(f"{truth}: lacks {missing[0]}; is it the truth of this synthetic recording?")
    cameras = FoundCameras.load(reconstruction / "cameras.npz")
    poses = true_poses(cameras, true)
    figures = camera_figures(cameras, poses, true)
    T_true_found = np.eye(4)
    if not true.get("poses_recorded", True):
        pairs = [(cameras.T_world_camera[name], poses[name]) for name in cameras.names]
        T_true_found = world_alignment(*(np.concatenate(both) for both in zip(*pairs, strict=True)))
    figures |= scene_figures(reconstruction, true, T_true_found)
    if has_person:
        found = HumanMotion.load(reconstruction / "human.npz")
        # The common clock is the first camera's, which may be ahead of true time.
        late = true_offset_ns(true, cameras.names[0]) - cameras.clock_offset_ns[cameras.names[0]]
        moved = dataclasses.replace(
            found, times_ns=found.times_ns - late, joint_pos=se3_apply(T_true_found, found.joint_pos)
        )
        figures |= human_figures(moved, true)
    return figures


def scene_figures(
    reconstruction: Path, true: dict[str, np.ndarray], T_true_found: np.ndarray | None = None
) -> dict[str, float]:
    """Return accuracy, completeness and F-score of the scene at 5 cm.

    Args:
        reconstruction: The reconstruction's folder.
        true: Arrays of truth.npz.
        T_true_found: Takes the reconstruction's world to the true one (4, 4).
    """
    mesh = load_scene(reconstruction / "scene.ply")
    placed = mesh.vertices if T_true_found is None else se3_apply(T_true_found, mesh.vertices)
    vertices, triangles = true["scene_vertices"].astype(np.float64), true["scene_triangles"]
    found, points = (sample_surface(v, t, SAMPLES) for v, t in ((placed, mesh.faces), (vertices, triangles)))
    cameras = FoundCameras.load(reconstruction / "cameras.npz")
    seen = np.zeros(len(points), dtype=bool)
    for name in cameras.names:
        poses = true[f"{name}_T_world_camera"][::15]
        left = np.flatnonzero(~seen)
        K, size = cameras.K[name], cameras.size[name]
        seen[left] = seen_points(points[left], vertices, triangles, poses, K, size, 5.0)
    # A surface found where no camera looked is judged against the whole scene.
    error = surface_distance(found, vertices, triangles)
    lack = surface_distance(points[seen], placed, mesh.faces)
    precision, recall = float((error <= 0.05).mean()), float((lack <= 0.05).mean())
    return {
        "scene_fscore_5cm": 2 * precision * recall / max(precision + recall, 1e-12),
        "scene_precision_5cm": precision,
        "scene_recall_5cm": recall,
        "scene_accuracy_median_mm": 1000 * float(np.median(error)),
        "scene_completeness_median_mm": 1000 * float(np.median(lack)),
    }


def surface_distance(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the distance (N,) in m of points (N, 3) to the nearest triangle of a mesh."""
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    return scene.compute_distance(o3d.core.Tensor(points.astype(np.float32))).numpy().astype(np.float64)


def human_figures(found: HumanMotion, true: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the joint metrics of a person."""
    names = [str(name) for name in true["human_joint_names"]]
    times, joints = true["human_times_ns"], true["human_joint_pos"]
    inside = (found.times_ns >= times[0]) & (found.times_ns <= times[-1])
    if "human_present" in true:
        inside &= true["human_present"][nearest_index(times, found.times_ns)].astype(bool)
    wanted = found.times_ns[inside]
    before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    share = ((wanted - times[before]) / (times[before + 1] - times[before]))[:, None, None]
    reference = (1 - share) * joints[before] + share * joints[before + 1]
    a = found.joint_pos[inside][:, [found.joint_names.index(name) for name in EVALUATED_JOINTS]]
    b = reference[:, [names.index(name) for name in EVALUATED_JOINTS]]
    fps = 1e9 / float(np.median(np.diff(found.times_ns)))
    third = np.diff(a, n=3, axis=0) * fps**3
    figures = {
        "person_coverage": float(inside.sum() / max(fps * (times[-1] - times[0]) * 1e-9, 1)),
        "wmpjpe100_mm": 1000 * chunk_error(a, b, CHUNK, 2),
        "wampjpe100_mm": 1000 * chunk_error(a, b, CHUNK, None),
        "wmpjpe500_mm": 1000 * chunk_error(a, b, LONG_CHUNK, 2),
        "wampjpe500_mm": 1000 * chunk_error(a, b, LONG_CHUNK, None),
        "mpjpe_world_mm": 1000 * float(np.linalg.norm(a - b, axis=-1).mean()),
        "root_error_mm": 1000 * float(np.linalg.norm(a[:, 0] - b[:, 0], axis=-1).mean()),
        "jitter_m_s3": float(np.linalg.norm(third, axis=-1).mean()),
    }
    if np.linalg.norm(np.diff(b[:, 0], axis=0), axis=1).sum() > 0:
        figures["rte_percent"] = rte_percent(a[:, 0], b[:, 0])
    parts = [str(name) for name in true["human_contact_names"]]
    touches = true["human_contact"][nearest_index(times, wanted)] > 0.5
    if set(parts) == set(found.contact_names):
        believed = found.contact[inside][:, [found.contact_names.index(name) for name in parts]] > 0.5
        figures |= _named_contact_f1(believed, touches, parts)
    feet = touches[:, [parts.index("left_foot"), parts.index("right_foot")]]
    ankles = found.joint_pos[inside][:, [found.joint_names.index(f"{side}_ankle") for side in ("left", "right")]]
    speed = np.linalg.norm(np.diff(ankles[..., :2], axis=0), axis=-1) * fps
    planted = feet[1:] & feet[:-1]
    if planted.any():
        figures["foot_slip_cm_s"] = 100 * float(speed[planted].mean())
    return figures


def _named_contact_f1(found: np.ndarray, truth: np.ndarray, parts: list[str]) -> dict[str, float]:
    """Return the F1 of all parts together, and of each that touches in either; all NaN are left out."""
    total, each = contact_f1(found, truth)
    named = {"contact_f1": total} | {f"contact_f1_{name}": float(f1) for name, f1 in zip(parts, each, strict=True)}
    return {name: f1 for name, f1 in named.items() if np.isfinite(f1)}
