"""The area of the floor that a standing robot's feet support."""

from __future__ import annotations

import numpy as np

from sim.retarget.footsteps import runs
from sim.retarget.kinematics import RobotKinematics


def support_polygons(
    model: RobotKinematics, position: np.ndarray, yaw: np.ndarray, contact: np.ndarray, margin: float
) -> list[tuple[int, int, np.ndarray]]:
    """Return (start, end, corners (K, 2)) of the support area per interval of unchanged contacts.

    Args:
        model: The robot's kinematics.
        position: Foot positions (T, 2, 2 or 3), world, m; over an interval the first one counts.
        yaw: Headings of the feet (T, 2), rad.
        contact: Whether each foot stands (T, 2), bool.
        margin: How far each foot's rectangle is shrunk on all sides, m.
    """
    supports = []
    rectangles = [_sole_rectangle(model, foot, margin) for foot in range(2)]
    code = contact @ np.array([1, 2])
    for state in (1, 2, 3):
        for start, end in runs(code == state):
            corners = []
            for foot in range(2):
                if state >> foot & 1:
                    heading = yaw[start, foot]
                    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
                    corners.append(position[start, foot, :2] + rectangles[foot] @ turn.T)
            supports.append((start, end, np.concatenate(corners)))
    return sorted(supports, key=lambda support: support[0])


def _sole_rectangle(model: RobotKinematics, foot: int, margin: float) -> np.ndarray:
    points = model.sole_points(foot)[:, :2]
    low, high = points.min(axis=0) + margin, points.max(axis=0) - margin
    # A margin wider than the foot leaves its middle line.
    low, high = np.minimum(low, 0.5 * (low + high) - 1e-3), np.maximum(high, 0.5 * (low + high) + 1e-3)
    return np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
