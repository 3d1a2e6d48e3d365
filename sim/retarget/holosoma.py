"""Reads holosoma's demonstration data: climbing people with the boxes they climb, and G1 reference motions."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import trimesh

from bodydouble.errors import InputError
from bodydouble.frames import quat_normalize
from bodydouble.motion import HumanMotion, RobotMotion
from sim.retarget.kinematics import make_robot_motion
from sim.retarget.lafan1 import resample
from sim.retarget.skeleton import human_from_joints
from sim.robots.spec import RobotSpec

CLIMB_FPS = 120.0
"""Frames per second of the climbs; the files do not say it, holosoma's tools assume it."""
MAX_FILE_BYTES = 256 << 20
"""Largest file that is read."""

_HAND = (
    "hand",
    *(f"{finger}{i}" for finger in ("thumb", "index", "middle", "ring", "pinky") for i in (1, 2, 3)),
)


def _side(side: str) -> tuple[str, ...]:
    return (f"{side}_collar", f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")


# The first joints are the trunk; fingers follow each wrist; the last two repeat the ankles.
CLIMB_JOINTS = (
    *("pelvis", "spine1", "spine", "neck", "head"),
    *_side("left"),
    *(f"left_finger{i:02d}" for i in range(15)),
    *_side("right"),
    *(f"right_finger{i:02d}" for i in range(15)),
    *(f"left_{joint}" for joint in ("hip", "knee", "ankle", "toe")),
    *(f"right_{joint}" for joint in ("hip", "knee", "ankle", "toe")),
    *("left_ankle_again", "right_ankle_again"),
)
"""Roles of the 53 joints, as their places in a standing frame show."""


def load_climb(path: Path, *, source_fps: float | None = None) -> tuple[HumanMotion, list[np.ndarray]]:
    """Return a climbing person, and the corners (V, 3) of each box of its scene, m.

    Args:
        path: The npy file of joint positions (T, 53, 3); the boxes are the obj files in `box_models` beside it.
        source_fps: Frames per second; none takes 120.

    Raises:
        InputError: The file is no such array, or a box cannot be read.
    """
    positions = _load_array(path)
    if positions.ndim != 3 or positions.shape[1:] != (53, 3):
        raise InputError(f"{path}: has shape {positions.shape}, expected joint positions (T, 53, 3)")
    if not np.isfinite(positions).all():
        raise InputError(f"{path}: holds NaN or infinity; the motion must be finite")
    times = np.arange(len(positions)) / (source_fps or CLIMB_FPS)
    human = human_from_joints(CLIMB_JOINTS, positions.astype(np.float64), times, "holosoma")
    return human, load_solids(path.parent / "box_models")


def load_solids(folder: Path) -> list[np.ndarray]:
    """Return the corners (V, 3) of each obj file of a folder, m; none where there is no folder.

    Raises:
        InputError: A file is no mesh.
    """
    solids = []
    for file in sorted(folder.glob("*.obj")) if folder.is_dir() else []:
        try:
            mesh = trimesh.load_mesh(file, process=False)
            solids.append(np.asarray(mesh.vertices, dtype=np.float64))
        except (OSError, ValueError, IndexError, AttributeError) as error:
            raise InputError(f"{file}: cannot be read as a mesh ({error})") from None
    return solids


def _load_array(path: Path) -> np.ndarray:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as npy ({error})") from None


def load_g1_reference(
    path: Path, robot: RobotSpec, *, start_s: float = 0.0, end_s: float | None = None, fps: float = 50.0
) -> RobotMotion:
    """Return a G1 reference motion: joint_pos (T, 36) holds base position, base orientation (wxyz) and 29 joints.

    Args:
        path: The npz file.
        robot: The robot whose joint names the file must hold.
        start_s: First time to take, s.
        end_s: Last time to take, s; none takes all.
        fps: Frames per second of the result.

    Raises:
        InputError: The file is no such npz, or is of another robot.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        with np.load(path, allow_pickle=False) as data:
            missing = [name for name in ("fps", "joint_pos", "joint_names") if name not in data]
            if missing:
                raise InputError(f"{path}: is no motion file, it lacks {', '.join(missing)}")
            rows, names = data["joint_pos"], tuple(str(name) for name in data["joint_names"])
            rate = float(np.ravel(data["fps"])[0])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as npz ({error})") from None
    if set(names) != set(robot.joint_names):
        unknown = sorted(set(names) ^ set(robot.joint_names))[0]
        raise InputError(f"{path}: is of another robot than {robot.name}: joint {unknown} is not in both")
    if rows.ndim != 2 or rows.shape[1] != 7 + len(names) or not np.isfinite(rows).all() or not rate > 0:
        raise InputError(f"{path}: joint_pos has shape {rows.shape}, expected finite (T, {7 + len(names)})")
    first, last = round(start_s * rate), len(rows) if end_s is None else min(len(rows), int(end_s * rate) + 1)
    rows = rows[first:last]
    if len(rows) < 4:
        raise InputError(f"{path}: has {len(rows)} frames between {start_s} and {end_s} s, expected at least 4")
    order = [names.index(name) for name in robot.joint_names]
    poses = resample(rows[:, :3], quat_normalize(rows[:, 3:7]), rows[:, 7:][:, order], source_fps=rate, fps=fps)
    return make_robot_motion(robot, fps, *poses)
