"""Two hand-held cameras that follow the person and look around the room."""

from __future__ import annotations

import numpy as np

from bodydouble.frames import make_se3


def intrinsics(width: int, height: int) -> np.ndarray:
    """Return the camera matrix (3, 3) of a depth camera with 63 degrees across."""
    focal = 0.82 * width
    return np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])


def look_at(position: np.ndarray, target: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return T_world_camera (T, 4, 4), OpenCV axes, of cameras at positions (T, 3) that look at targets (T, 3)."""
    forward = target - position
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return make_se3(np.stack([c * right + s * down, -s * right + c * down, forward], axis=-1), position)


def _wander(rng: np.random.Generator, times: np.ndarray, size: float, slow: float, fast: float) -> np.ndarray:
    """Return smooth random motion (T,): two slow waves and a small fast one, as a hand has."""
    waves = sum(
        np.sin(2 * np.pi * rng.uniform(0.05, slow) * times + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.4, 1.0)
        for _ in range(2)
    )
    return size * (0.5 * waves + fast * np.sin(2 * np.pi * rng.uniform(3, 6) * times + rng.uniform(0, 2 * np.pi)))


def hand_held(rng: np.random.Generator, times: np.ndarray, person: np.ndarray, angle: float) -> np.ndarray:
    """Return T_world_camera (T, 4, 4) of a camera in somebody's hand.

    Args:
        rng: Random numbers.
        times: Frame times (T,), s.
        person: The person's pelvis (T, 3), world, m.
        angle: Direction of the camera from the middle of the room, rad.
    """
    around = angle + _wander(rng, times, 0.22, 0.15, 0.01)
    distance = 2.15 + _wander(rng, times, 0.10, 0.15, 0.02)
    height = 1.45 + _wander(rng, times, 0.10, 0.2, 0.03)
    position = np.stack([distance * np.cos(around), distance * np.sin(around), height], axis=-1)
    position += np.stack([_wander(rng, times, 0.006, 2.0, 0.4) for _ in range(3)], axis=-1)
    # The eye drifts slowly around the person, which also shows the room.
    drift = np.stack([_wander(rng, times, 0.30, 0.12, 0.01), _wander(rng, times, 0.30, 0.12, 0.01)], axis=-1)
    target = np.stack(
        [0.8 * person[:, 0] + drift[:, 0], 0.8 * person[:, 1] + drift[:, 1], person[:, 2] - 0.05], axis=-1
    )
    target[:, 2] += _wander(rng, times, 0.12, 0.15, 0.01)
    return look_at(position, target, _wander(rng, times, 0.03, 0.3, 0.05))
