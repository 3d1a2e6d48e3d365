"""Motions over time: a person's (HumanMotion) and a robot's (RobotMotion), stored as npz without pickles."""

from __future__ import annotations

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bodydouble.errors import InputError

MAX_MOTION_BYTES = 1 << 30
"""Largest unpacked motion file that is read."""


def _check_shape(owner: str, name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(shape) and all(want in (None, have) for have, want in zip(array.shape, shape, strict=True))
    if not fits:
        raise InputError(f"{owner}.{name} has shape {array.shape}, expected {shape}")


def _check_finite(owner: str, name: str, array: np.ndarray) -> None:
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise InputError(f"{owner}.{name} holds NaN or infinity; the motion must be finite")


class _NpzDataclass:
    """Saves and loads a dataclass of arrays, strings and tuples of strings as npz."""

    def save(self, path: Path) -> None:
        """Write the motion to an npz file."""
        arrays: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            arrays[field.name] = np.array(value, dtype=np.str_) if isinstance(value, tuple | str) else np.asarray(value)
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the motion from an npz file.

        Raises:
            InputError: The file is missing, is no npz, lacks an array or holds arrays of the wrong shape.
        """
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        try:
            with zipfile.ZipFile(path) as archive:
                total = sum(info.file_size for info in archive.infolist())
            if total > MAX_MOTION_BYTES:
                raise InputError(f"{path}: unpacks to {total} bytes, the limit is {MAX_MOTION_BYTES}")
            with np.load(path, allow_pickle=False) as data:
                needed = [field for field in fields if field.default_factory is dataclasses.MISSING]
                missing = [field.name for field in needed if field.name not in data]
                if missing:
                    raise InputError(f"{path}: is no {cls.__name__} file, it lacks {', '.join(missing)}")
                values = {field.name: data[field.name] for field in fields if field.name in data}
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except Exception as error:  # numpy, zipfile and zlib on foreign bytes, each with classes of its own
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: cannot be read as {cls.__name__} ({reason}); write it again") from None
        out = {}
        for name, value in values.items():
            if not isinstance(value, np.ndarray):
                raise InputError(f"{path}: its entry {name} is no array; write it again")
            if value.dtype.kind == "U":
                try:
                    out[name] = str(value) if value.ndim == 0 else tuple(str(item) for item in value)
                except (SystemError, ValueError):  # what numpy raises for numbers that are no letters
                    raise InputError(f"{path}: its entry {name} holds no text; write it again") from None
            else:
                out[name] = value.item() if value.ndim == 0 else value
        return cls(**out)


@dataclass(frozen=True)
class RobotMotion(_NpzDataclass):
    """A robot's motion sampled at a fixed rate. T frames, J joints, K tracked bodies, C contacts."""

    fps: float
    """Frames per second; a policy's control rate."""
    joint_names: tuple[str, ...]
    """Joint names in the robot model's order."""
    root_pos: np.ndarray
    """Base positions (T, 3), world, m."""
    root_quat: np.ndarray
    """Base orientations (T, 4), wxyz."""
    joint_pos: np.ndarray
    """Joint positions (T, J), rad."""
    root_lin_vel: np.ndarray
    """Base linear velocities (T, 3), world frame, m/s."""
    root_ang_vel: np.ndarray
    """Base angular velocities (T, 3), base frame, rad/s."""
    joint_vel: np.ndarray
    """Joint velocities (T, J), rad/s."""
    body_names: tuple[str, ...]
    """Names of the tracked bodies."""
    body_pos: np.ndarray
    """Positions of the tracked bodies (T, K, 3), world, m."""
    body_quat: np.ndarray
    """Orientations of the tracked bodies (T, K, 4), wxyz."""
    contact_names: tuple[str, ...]
    """Names of the contacts, e.g. left_foot."""
    contact: np.ndarray
    """Whether each contact is meant to hold (T, C), bool."""

    def __post_init__(self) -> None:
        t, j, k, c = len(self.root_pos), len(self.joint_names), len(self.body_names), len(self.contact_names)
        shapes = {
            "root_pos": (t, 3),
            "root_quat": (t, 4),
            "joint_pos": (t, j),
            "root_lin_vel": (t, 3),
            "root_ang_vel": (t, 3),
            "joint_vel": (t, j),
            "body_pos": (t, k, 3),
            "body_quat": (t, k, 4),
            "contact": (t, c),
        }
        for name, shape in shapes.items():
            _check_shape("RobotMotion", name, getattr(self, name), shape)
            _check_finite("RobotMotion", name, getattr(self, name))
        if t < 2 or not self.fps > 0:
            raise InputError(f"RobotMotion has {t} frames at {self.fps} Hz, expected at least 2 at a positive rate")

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.root_pos)

    @property
    def duration_s(self) -> float:
        """Time from the first frame to the last, s."""
        return (self.num_frames - 1) / self.fps


@dataclass(frozen=True)
class HumanMotion(_NpzDataclass):
    """A person's motion. T frames, J joints, C contacts, P bones of the body model, S shape parameters."""

    times_ns: np.ndarray
    """Frame times (T,), int64 ns, increasing."""
    joint_names: tuple[str, ...]
    """Names of the joints."""
    joint_pos: np.ndarray
    """Joint positions (T, J, 3), world, m."""
    joint_quat: np.ndarray
    """Joint orientations (T, J, 4), world, wxyz."""
    contact_names: tuple[str, ...]
    """Names of the body parts that can touch the scene: feet, hands, pelvis, knees, back, e.g. left_foot."""
    contact: np.ndarray
    """Contact probabilities (T, C)."""
    contact_pos: np.ndarray
    """Positions of the body parts (T, C, 3), world, m."""
    body_model: str
    """Name of the parametric body, e.g. anny."""
    shape_names: tuple[str, ...]
    """Names of the body's shape parameters."""
    shape: np.ndarray
    """Shape parameters (S,)."""
    pose: np.ndarray
    """Local bone rotations of the body model (T, P, 4), wxyz."""
    root_pos: np.ndarray
    """Translation of the body model's root (T, 3), world, m."""
    seen: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=bool))
    """Whether a camera saw the person in each frame (T,), bool; all where not given. What is not seen is a guess."""

    def __post_init__(self) -> None:
        t, j, c = len(self.times_ns), len(self.joint_names), len(self.contact_names)
        if not len(self.seen):
            object.__setattr__(self, "seen", np.ones(t, dtype=bool))
        shapes = {
            "times_ns": (t,),
            "joint_pos": (t, j, 3),
            "joint_quat": (t, j, 4),
            "contact": (t, c),
            "contact_pos": (t, c, 3),
            "shape": (len(self.shape_names),),
            "pose": (t, None, 4),
            "root_pos": (t, 3),
            "seen": (t,),
        }
        for name, shape in shapes.items():
            _check_shape("HumanMotion", name, getattr(self, name), shape)
            _check_finite("HumanMotion", name, getattr(self, name))
        if t and np.any(np.diff(self.times_ns) <= 0):
            raise InputError("HumanMotion.times_ns must increase from frame to frame")

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.times_ns)
