"""A standing reference at a free place of the floor, for rooms that nobody was recorded in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import kinematics, make_robot_motion
from sim.robots import RobotSpec
from sim.stage.scene_mesh import SceneMesh
from sim.stage.stage import CONTROL_HZ
from sim.stage.surface import sample_surface

_CELL_M = 0.05
_FLOOR_BAND_M = 0.03
_LEVEL = float(np.cos(np.deg2rad(25.0)))
_FOOTPRINT_M = 0.2


@dataclass(frozen=True)
class StandConfig:
    """Where and how long a robot stands."""

    seconds: float = 12.0
    """Length of the reference, s."""
    place: tuple[float, float] | None = None
    """Place (x, y) in the stage, m; none takes the place with the most room."""
    min_clearance_m: float = 0.3
    """Least distance to anything that is higher than the floor, m."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 3600.0 or not self.min_clearance_m >= 0.0:
            raise InputError(
                f"standing: seconds {self.seconds}, min_clearance_m {self.min_clearance_m}; expected 0.1 to 3600, "
                "and at least 0"
            )


@dataclass(frozen=True)
class Place:
    """A place of the floor."""

    x: float
    """Position, m."""
    y: float
    """Position, m."""
    yaw: float
    """Heading away from the nearest thing, rad."""
    clearance_m: float
    """Distance to the nearest thing that is higher than the floor, m."""


def free_place(mesh: SceneMesh, config: StandConfig, min_height_m: float, max_height_m: float) -> Place:
    """Return the place of the seen floor that is farthest from its edges and from everything that stands on it.

    Args:
        mesh: The scene in the stage's frame, floor at height zero.
        config: Settings.
        min_height_m: Height from which on something stands in the way, m.
        max_height_m: Height up to which something stands in the way, m.

    Raises:
        InputError: No place has the least clearance.
    """
    surface = sample_surface(mesh, 0.5 * _CELL_M)
    z = surface.points[:, 2]
    floor = (np.abs(z) < _FLOOR_BAND_M) & (np.abs(surface.normals[:, 2]) > _LEVEL)
    low = surface.points[:, :2].min(axis=0) - 2 * _CELL_M
    shape = tuple(((surface.points[:, :2].max(axis=0) - low) / _CELL_M).astype(int) + 3)
    seen = _grid(surface.points[floor, :2], low, shape)
    blocked = _grid(surface.points[(z > min_height_m) & (z < max_height_m), :2], low, shape)
    # Small holes of a scanned floor are floor.
    seen = ndimage.binary_closing(seen, iterations=2) & ~blocked
    clearance, nearest = _distance(blocked)
    to_edge, _ = _distance(~seen)
    room = np.where(to_edge >= _FOOTPRINT_M, np.minimum(clearance, to_edge + _FOOTPRINT_M), -1.0)
    if config.place is None:
        i, j = np.unravel_index(int(room.argmax()), shape)
    else:
        i, j = np.clip(((np.array(config.place) - low) / _CELL_M).astype(int), 0, np.array(shape) - 1)
    found = float(clearance[i, j])
    if found < config.min_clearance_m or (config.place is None and room[i, j] < 0):
        where = "the best place of the floor" if config.place is None else f"place {config.place}"
        raise InputError(
            f"scene: {where} has {min(found, 99.0):.2f} m to the nearest thing, expected {config.min_clearance_m} m on "
            "floor that was seen; record more of the floor, or lower config.stand.min_clearance_m"
        )
    x, y = (low + (np.array([i, j]) + 0.5) * _CELL_M) if config.place is None else config.place
    away = np.array([i, j]) - nearest[:, i, j]
    yaw = float(np.arctan2(away[1], away[0])) if np.isfinite(found) else 0.0
    return Place(float(x), float(y), yaw, min(found, 99.0))


def standing_motion(robot: RobotSpec, place: Place, seconds: float) -> RobotMotion:
    """Return a robot standing still in its default pose.

    Raises:
        InputError: The robot has no feet to stand on.
    """
    if not robot.floating_base or not robot.foot_bodies:
        raise InputError(f"robot {robot.name}: has no feet to stand on; stages without a person are for legged robots")
    frames = max(2, round(seconds * CONTROL_HZ) + 1)
    root = np.tile([place.x, place.y, kinematics(robot).standing_height()], (frames, 1))
    quat = np.tile([np.cos(0.5 * place.yaw), 0.0, 0.0, np.sin(0.5 * place.yaw)], (frames, 1))
    return make_robot_motion(robot, CONTROL_HZ, root, quat, np.tile(robot.default_joint_pos, (frames, 1)))


def _distance(taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's distance to the nearest taken one (A, B) in m, and that cell (2, A, B)."""
    if not taken.any():
        return np.full(taken.shape, np.inf), np.zeros((2, *taken.shape), dtype=int)
    distance, nearest = np.zeros(taken.shape), np.zeros((2, *taken.shape), dtype=np.int32)
    ndimage.distance_transform_edt(~taken, sampling=_CELL_M, return_indices=True, distances=distance, indices=nearest)
    return distance, nearest


def _grid(points: np.ndarray, low: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    grid = np.zeros(shape, dtype=bool)
    grid[tuple(((points - low) / _CELL_M).astype(int).T)] = True
    return grid
