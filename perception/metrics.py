"""Metrics of a reconstruction against ground truth: the scene's F-score, the person's world-frame joint errors."""

# Open3D's type stubs refuse the numpy arrays that Open3D takes.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import open3d as o3d
from scipy.spatial import cKDTree

from bodydouble.errors import InputError
from bodydouble.frames import se3_inverse
from bodydouble.motion import HumanMotion
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


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale, rotation and translation that take source (N, 3) to target (N, 3) best (Umeyama 1991)."""
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    x, y = source - mean_source, target - mean_target
    u, s, vt = np.linalg.svd(y.T @ x)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = float(np.trace(np.diag(s) @ flip) / np.sum(x * x))
    return scale, rotation, mean_target - scale * rotation @ mean_source


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


def rigid_aligned(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return found (N, 3) moved rigidly, without scale, onto truth (N, 3) (Kabsch 1976)."""
    _, rotation, _ = similarity(found, truth)
    return (found - found.mean(axis=0)) @ rotation.T + truth.mean(axis=0)


def ate(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the root mean square of camera position errors after a rigid alignment, in the inputs' unit.

    Args:
        found: Camera positions (T, 3).
        truth: True camera positions (T, 3) at the same times.
    """
    return float(np.sqrt(np.mean(np.sum((rigid_aligned(found, truth) - truth) ** 2, axis=1))))


def sync_error_ms(found_ns: dict[str, float], true_ns: dict[str, float]) -> float:
    """Return the largest error of the cameras' clock offsets, ms; only differences between cameras count.

    Args:
        found_ns: Clock offset of each camera, ns.
        true_ns: True clock offset of each camera, ns.

    Raises:
        InputError: The cameras are not the same, or there is none.
    """
    if not true_ns or set(found_ns) != set(true_ns):
        raise InputError(f"clock offsets of {sorted(found_ns)}, expected those of {sorted(true_ns)}")
    error = np.array([found_ns[name] - true_ns[name] for name in sorted(true_ns)])
    return float(np.abs(error - error[0]).max()) * 1e-6


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

    The scene counts where some camera could see it (cast from the true poses); joints are compared at the
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
    figures = scene_figures(reconstruction, true)
    if has_person:
        figures |= human_figures(HumanMotion.load(reconstruction / "human.npz"), true)
    return figures


def scene_figures(reconstruction: Path, true: dict[str, np.ndarray]) -> dict[str, float]:
    """Return accuracy, completeness and F-score of the scene at 5 cm."""
    mesh = load_scene(reconstruction / "scene.ply")
    vertices, triangles = true["scene_vertices"].astype(np.float64), true["scene_triangles"]
    found, points = (sample_surface(v, t, SAMPLES) for v, t in ((mesh.vertices, mesh.faces), (vertices, triangles)))
    names, K, size = _cameras(reconstruction / "cameras.npz")
    seen = np.zeros(len(points), dtype=bool)
    for name in names:
        poses = true[f"{name}_T_world_camera"][::15]
        left = np.flatnonzero(~seen)
        seen[left] = seen_points(points[left], vertices, triangles, poses, K[name], size[name], 5.0)
    # A surface found where no camera looked is judged against the whole scene.
    error = surface_distance(found, vertices, triangles)
    precision = float((error <= 0.05).mean())
    recall = float((surface_distance(points[seen], mesh.vertices, mesh.faces) <= 0.05).mean())
    return {
        "scene_fscore_5cm": 2 * precision * recall / max(precision + recall, 1e-12),
        "scene_precision_5cm": precision,
        "scene_recall_5cm": recall,
        "scene_accuracy_median_mm": 1000 * float(np.median(error)),
    }


def surface_distance(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the distance (N,) in m of points (N, 3) to the nearest triangle of a mesh."""
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(triangles.astype(np.uint32)))
    return scene.compute_distance(o3d.core.Tensor(points.astype(np.float32))).numpy().astype(np.float64)


def _cameras(path: Path) -> tuple[list[str], dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            names = [str(name) for name in data["names"]]
            K = {name: data[f"{name}_K"] for name in names}
            size = {name: (int(data[f"{name}_size"][0]), int(data[f"{name}_size"][1])) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({error}); reconstruct again") from None
    return names, K, size


def human_figures(found: HumanMotion, true: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the joint metrics of a person."""
    names = [str(name) for name in true["human_joint_names"]]
    times, joints = true["human_times_ns"], true["human_joint_pos"]
    inside = (found.times_ns >= times[0]) & (found.times_ns <= times[-1])
    wanted = found.times_ns[inside]
    before = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    share = ((wanted - times[before]) / (times[before + 1] - times[before]))[:, None, None]
    reference = (1 - share) * joints[before] + share * joints[before + 1]
    a = found.joint_pos[inside][:, [found.joint_names.index(name) for name in EVALUATED_JOINTS]]
    b = reference[:, [names.index(name) for name in EVALUATED_JOINTS]]
    fps = 1e9 / float(np.median(np.diff(found.times_ns)))
    third = np.diff(a, n=3, axis=0) * fps**3
    figures = {
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
    contact = _foot_contact(true, wanted)
    toes = found.joint_pos[inside][:, [found.joint_names.index(f"{side}_ankle") for side in ("left", "right")]]
    speed = np.linalg.norm(np.diff(toes[..., :2], axis=0), axis=-1) * fps
    planted = contact[1:] & contact[:-1]
    if planted.any():
        figures["foot_slip_cm_s"] = 100 * float(speed[planted].mean())
    return figures


def _foot_contact(true: dict[str, np.ndarray], times_ns: np.ndarray) -> np.ndarray:
    names = [str(name) for name in true["human_contact_names"]]
    columns = [names.index("left_foot"), names.index("right_foot")]
    nearest = np.clip(np.searchsorted(true["human_times_ns"], times_ns), 0, len(true["human_times_ns"]) - 1)
    return true["human_contact"][nearest][:, columns] > 0.5
