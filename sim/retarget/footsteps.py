"""Foot plan: footholds that do not move while a foot stands, and smooth swings between them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from sim.retarget.scene import Scene

_SOLE_M = np.array([-0.04, 0.0, 0.06, 0.1])
"""Where along the foot the ground is looked for, from the ankle, m."""
_SURFACE_STEP_M = 0.1
"""A surface within this height of a standing foot is the one that it stands on, m."""


@dataclass(frozen=True, eq=False)
class FootPlan:
    """Where both feet (left, right) are at every one of T frames. Standing feet are flat."""

    position: np.ndarray
    """Ankles' places over the ground and the height of the lowest point of the soles (T, 2, 3), world, m."""
    yaw: np.ndarray
    """Headings (T, 2), rad."""
    pitch: np.ndarray
    """Pitch (T, 2), rad, positive with the toes down."""
    contact: np.ndarray
    """Whether a foot stands (T, 2), bool."""
    quat: np.ndarray | None = None
    """Orientations of the feet against flat ones that point ahead (T, 2, 4), wxyz; None makes them of yaw and pitch."""


@dataclass(frozen=True)
class Foothold:
    """One foot's stand from frame `start` up to, not including, frame `end`."""

    start: int
    """First frame."""
    end: int
    """Frame after the last."""
    x: float
    """Position, m."""
    y: float
    """Position, m."""
    yaw: float
    """Heading, rad."""
    z: float = 0.0
    """Height of the surface, m."""


def clean_contacts(contact: np.ndarray, min_contact: int, min_swing: int) -> np.ndarray:
    """Return contacts (T,) without swings below `min_swing` frames, then without contacts below `min_contact`."""
    out = contact.copy()
    for value, shortest in ((False, min_swing), (True, min_contact)):
        for start, end in runs(out == value):
            # A run at the clip's edge may go on outside of it.
            if end - start < shortest and start > 0 and end < len(out):
                out[start:end] = not value
    return out


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the [start, end) intervals in which a boolean array (T,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def find_footholds(
    contact: np.ndarray, path: np.ndarray, yaw: np.ndarray, scene: Scene | None = None
) -> list[Foothold]:
    """Return one foothold per contact: the median place and heading of a foot's path over it.

    Args:
        contact: Whether the foot stands (T,), bool.
        path: Where the foot would be (T, 3), m.
        yaw: Where it would point (T,), rad, without jumps.
        scene: What stands on the floor; None for nothing.
    """
    holds = []
    for start, end in runs(contact):
        x, y, z = np.median(path[start:end], axis=0)
        heading = float(np.median(yaw[start:end]))
        surface = 0.0 if scene is None else _surface(scene, x, y, heading, z)
        holds.append(Foothold(start, end, float(x), float(y), heading, surface))
    return holds


def _surface(scene: Scene, x: float, y: float, heading: float, height: float) -> float:
    """Return the height in m of the surface that a foot at (x, y) and about this height stands on."""
    along = np.array([np.cos(heading), np.sin(heading)])
    heights = scene.height(np.array([x, y]) + _SOLE_M[:, None] * along)
    near = heights[np.abs(heights - height) < _SURFACE_STEP_M]
    # The sole lies on the highest surface below it; what is far above belongs to something beside the foot.
    return float(near.max() if len(near) else heights[np.argmin(np.abs(heights - height))])


def min_jerk(share: np.ndarray) -> np.ndarray:
    """Return the minimum-jerk course from 0 to 1 over shares of the time in [0, 1] (Flash and Hogan, 1985)."""
    s = np.clip(share, 0.0, 1.0)
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def swing(
    hold: Foothold,
    following: Foothold,
    path: np.ndarray,
    yaw: np.ndarray,
    pitch: np.ndarray,
    fps: float,
    clearance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions (N, 3), headings (N,) and pitch (N,) of a foot between two footholds.

    A minimum-jerk course joins the footholds; what the person's foot did beyond its own such course is added, faded
    in and out, so that a foot lifts off and lands without a jump of speed.

    Args:
        hold: Where it lifts off.
        following: Where it lands.
        path: Where the foot would be (T, 3), heights over its standing height, m.
        yaw: Where it would point (T,), rad.
        pitch: How far its toes would be down (T,), rad.
        fps: Frames per second.
        clearance: Least height in the middle of the swing, m.
    """
    count = following.start - hold.end
    share = np.arange(1, count + 1) / (count + 1)
    course = min_jerk(share)[:, None]
    start, end = np.array([hold.x, hold.y, hold.yaw]), np.array([following.x, following.y, following.yaw])
    ground = hold.z + (following.z - hold.z) * course[:, 0]
    planned = start + (end - start) * course
    own = np.column_stack([path[hold.end : following.start, :2], yaw[hold.end : following.start]])
    residual = own - (own[0] + (own[-1] - own[0]) * course)
    fade_time = min(0.2, 0.5 * count / fps)
    times = share * count / fps
    fade = min_jerk(times / fade_time) * min_jerk((count / fps - times) / fade_time)
    planned = planned + fade[:, None] * residual
    lift = 64.0 * (share * (1.0 - share)) ** 3
    height = np.maximum(path[hold.end : following.start, 2] - ground, 0.0) * fade
    # The larger of both, without a kink where they cross.
    bump = clearance * lift
    height = 0.5 * (height + bump + np.sqrt((height - bump) ** 2 + (0.2 * bump) ** 2))
    return np.column_stack([planned[:, :2], ground + height]), planned[:, 2], pitch[hold.end : following.start] * fade


def plan_feet(
    holds: tuple[list[Foothold], list[Foothold]],
    path: np.ndarray,
    yaw: np.ndarray,
    pitch: np.ndarray,
    fps: float,
    clearance: float,
) -> FootPlan:
    """Return the plan of both feet.

    Args:
        holds: Footholds of the left and the right foot; before the first and after the last one a foot follows its
            own path, moved to meet the foothold.
        path: Where the feet would be (T, 2, 3), heights over their standing height, m.
        yaw: Where they would point (T, 2), rad, without jumps.
        pitch: How far their toes would be down (T, 2), rad.
        fps: Frames per second.
        clearance: Least height in the middle of a swing, m.
    """
    frames = len(path)
    position, heading, tilt = np.zeros((frames, 2, 3)), np.zeros((frames, 2)), np.zeros((frames, 2))
    contact = np.zeros((frames, 2), dtype=bool)
    for foot, foot_holds in enumerate(holds):
        position[:, foot], heading[:, foot], tilt[:, foot] = path[:, foot], yaw[:, foot], pitch[:, foot]
        position[:, foot, 2] = np.maximum(position[:, foot, 2], 0.0)
        if foot_holds:
            for hold, before in ((foot_holds[0], True), (foot_holds[-1], False)):
                outside, edge = (
                    (slice(0, hold.start), hold.start) if before else (slice(hold.end, frames), hold.end - 1)
                )
                shift = np.array([hold.x, hold.y]) - path[edge, foot, :2]
                position[outside, foot, :2] += shift
                heading[outside, foot] += hold.yaw - yaw[edge, foot]
        for hold in foot_holds:
            position[hold.start : hold.end, foot] = (hold.x, hold.y, hold.z)
            heading[hold.start : hold.end, foot] = hold.yaw
            tilt[hold.start : hold.end, foot] = 0.0
            contact[hold.start : hold.end, foot] = True
        for hold, following in itertools.pairwise(foot_holds):
            between = slice(hold.end, following.start)
            position[between, foot], heading[between, foot], tilt[between, foot] = swing(
                hold, following, path[:, foot], yaw[:, foot], pitch[:, foot], fps, clearance
            )
    return FootPlan(position, heading, tilt, contact)
