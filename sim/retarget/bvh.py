"""Reads BVH motion files (Biovision hierarchy) as human motions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from bodydouble.errors import InputError
from bodydouble.frames import wxyz_from_xyzw
from bodydouble.motion import HumanMotion

MAX_BVH_BYTES = 256 << 20
"""Largest BVH file that is read."""


_UNITS = {
    "metres": 1.0,
    "decimetres": 0.1,
    "cgspeed": 0.056444,
    "inches": 0.0254,
    "centimetres": 0.01,
    "millimetres": 0.001,
}
"""Units that occur in BVH files, m. The CMU recordings as converted by cgspeed use 0.056444 m (1 / 0.45 inches)."""
_HEIGHTS_M = (1.25, 2.25)
"""Heights that a person can have, m."""
_T_POSE_STEP_M = 0.25
"""A joint that moves farther from the first frame to the second was put there: a T pose precedes the motion."""


def load_bvh(
    path: Path, *, metres_per_unit: float | None = None, up: str = "auto", skip_frames: int | None = None
) -> HumanMotion:
    """Return a BVH file's motion, Z up, lowest joint of the first second at height zero.

    A BVH file says nothing of contacts: retarget with contact_source kinematic.

    Args:
        path: The file.
        metres_per_unit: Length of one unit of the file, m; none takes the known unit that makes the skeleton as tall
            as a person.
        up: Axis that points up in the file: y or z; auto takes the one along which the skeleton is taller.
        skip_frames: Frames left out at the start; none leaves out a first frame that the motion jumps away from.

    Raises:
        InputError: The file is missing, too large or no BVH, or no unit fits.
    """
    try:
        if path.stat().st_size > MAX_BVH_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_BVH_BYTES}")
        tokens = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    try:
        names, parents, offsets, channels, frame_s, values = _parse(tokens)
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: is no BVH file ({error}); expected HIERARCHY and MOTION") from None
    if len(values) < (skip_frames or 0) + 2:
        raise InputError(f"{path}: has {len(values)} frames, expected at least 2 after those left out")
    positions, rotations = _forward(parents, offsets, channels, values)
    if up == "auto":
        up = "y" if np.ptp(positions[0, :, 1]) > np.ptp(positions[0, :, 2]) else "z"
    height = np.ptp(positions[..., "xyz".index(up)], axis=1).max()
    positions = positions * (metres_per_unit or _guess_unit(height, path))
    if skip_frames is None:
        steps = np.linalg.norm(np.diff(positions[:3], axis=0), axis=-1).max(axis=1)
        skip_frames = int(len(steps) > 1 and steps[0] > _T_POSE_STEP_M > steps[1])
    positions, rotations = positions[skip_frames:], rotations[skip_frames:]
    if up == "y":
        turn = Rotation.from_euler("x", 90, degrees=True)
        positions = turn.apply(positions.reshape(-1, 3)).reshape(positions.shape)
        rotations = (turn * Rotation.from_quat(rotations.reshape(-1, 4))).as_quat().reshape(rotations.shape)
    frames = len(positions)
    positions[..., 2] -= positions[: max(1, int(1.0 / frame_s)), :, 2].min()
    none = np.zeros((frames, 0))
    return HumanMotion(
        times_ns=np.round(np.arange(frames) * frame_s * 1e9).astype(np.int64),
        joint_names=tuple(names),
        joint_pos=positions,
        joint_quat=wxyz_from_xyzw(rotations),
        contact_names=(),
        contact=none,
        contact_pos=np.zeros((frames, 0, 3)),
        body_model="bvh",
        shape_names=(),
        shape=np.zeros(0),
        pose=wxyz_from_xyzw(rotations),
        root_pos=positions[:, 0],
    )


def _guess_unit(height: float, path: Path) -> float:
    """Return the known unit in m that makes a skeleton of this height as tall as a person."""
    fitting = [metres for metres in _UNITS.values() if _HEIGHTS_M[0] <= height * metres <= _HEIGHTS_M[1]]
    if not fitting:
        raise InputError(f"{path}: the skeleton is {height:.4g} units tall, no known unit fits; give metres_per_unit")
    return fitting[0]


def _parse(tokens: list[str]) -> tuple[list[str], list[int], np.ndarray, list[list[str]], float, np.ndarray]:
    if tokens[0] != "HIERARCHY":
        raise ValueError("HIERARCHY is missing")
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    i = 1
    while tokens[i] != "MOTION":
        word = tokens[i]
        if word in ("ROOT", "JOINT", "End"):
            names.append(tokens[i + 1] if word != "End" else f"{names[stack[-1]]}_end")
            parents.append(stack[-1] if stack else -1)
            channels.append([])
            i += 2
        elif word == "{":
            stack.append(len(names) - 1)
            i += 1
        elif word == "}":
            stack.pop()
            i += 1
        elif word == "OFFSET":
            offsets.append([float(value) for value in tokens[i + 1 : i + 4]])
            i += 4
        elif word == "CHANNELS":
            count = int(tokens[i + 1])
            channels[stack[-1]] = tokens[i + 2 : i + 2 + count]
            i += 2 + count
        else:
            raise ValueError(f"unknown word {word!r}")
    frames, frame_s = int(tokens[i + 2]), float(tokens[i + 5])
    values = np.array(tokens[i + 6 :], dtype=np.float64).reshape(frames, sum(map(len, channels)))
    return names, parents, np.array(offsets), channels, frame_s, values


def _forward(
    parents: list[int], offsets: np.ndarray, channels: list[list[str]], values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return joint positions (T, J, 3) in file units and orientations (T, J, 4), xyzw."""
    frames, joints = len(values), len(parents)
    positions, rotations = np.zeros((frames, joints, 3)), np.zeros((frames, joints, 4))
    column = 0
    for j, (parent, names) in enumerate(zip(parents, channels, strict=True)):
        data = values[:, column : column + len(names)]
        column += len(names)
        local = np.tile(offsets[j], (frames, 1))
        order, angles = "", []
        for name, series in zip(names, data.T, strict=True):
            if name.endswith("position"):
                local[:, "XYZ".index(name[0])] = series
            else:
                order += name[0]
                angles.append(series)
        turn = Rotation.from_euler(order, np.stack(angles, 1), degrees=True) if order else Rotation.identity(frames)
        if parent < 0:
            positions[:, j], rotations[:, j] = local, turn.as_quat()
        else:
            base = Rotation.from_quat(rotations[:, parent])
            positions[:, j] = positions[:, parent] + base.apply(local)
            rotations[:, j] = (base * turn).as_quat()
    return positions, rotations
