"""What is wrong with a recording's cameras, said before anything is rebuilt: depth in another unit, frames missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from bodydouble.errors import InputError
from perception.views import View

NEAREST_ROOM_M = 0.5
"""Depth that some readings of a room exceed, m."""
FARTHEST_ROOM_M = 15.0
"""Median depth that a room stays below, m."""
UNITS = ((1e-4, "0.1 mm"), (1e-2, "cm"), (1 / 5000, "1/5000 m, as TUM's files have it"), (1.0, "m"))
"""Units, m, that depth comes in besides millimetres, and their names."""
LOST_SHARE = 0.05
"""Share of lost frames from which on it is told."""
NEAR_M, NEAR_RAD = 0.1, 0.1
"""Change of a pose from frame to frame that is never a jump."""
FASTEST_M_S, FASTEST_RAD_S = 2.5, 4.0
"""Speeds above which a pose has jumped."""
MOST_WRONG = 0.3
"""Share of jumping poses above which it is not single poses that are wrong."""
ENDS_EARLY_S = 1.0
"""How much sooner than the others a camera may end before it is told, s."""


def check_depth(views: Sequence[View]) -> None:
    """Refuse depth that no room has: the unit is wrong then, and all that follows would be.

    Args:
        views: The views, with or without poses.

    Raises:
        InputError: A camera's depth is not that of a room.
    """
    for view in views:
        step = max(1, len(view.times_ns) // 20)
        sample = np.concatenate([view.depth_mm[i, ::8, ::8].ravel() for i in range(0, len(view.times_ns), step)])
        read = sample[sample > 0] / 1000
        if not len(read):
            continue
        far, middle = float(np.quantile(read, 0.98)), float(np.median(read))
        if far >= NEAREST_ROOM_M and middle <= FARTHEST_ROOM_M:
            continue
        what = (
            f"nothing is farther than {far:.2f} m" if far < NEAREST_ROOM_M else f"half is farther than {middle:.0f} m"
        )
        fitting = [name for unit, name in UNITS if 0.8 < middle * 1000 * unit < 4.0]
        guess = f" (a room's would be {' or '.join(fitting)})" if fitting else ""
        raise InputError(
            f"depth of {view.name}: {what}, which is no room; depth is taken as millimetres: is it in another unit"
            f"{guess}? Import it again with its unit"
        )


def without_wrong_poses(view: View, warnings: list[str]) -> View:
    """Return the view with NaN for poses that no hand can hold: far from the frame before and from the one after.

    Args:
        view: The view, with recorded poses.
        warnings: Receives how many these are, and when the first one is.
    """
    poses, seconds = view.T_world_camera, (view.times_ns - view.times_ns[0]) * 1e-9
    if len(poses) < 3:
        return view
    gap = np.maximum(np.diff(seconds), 1e-3)
    way = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turn = np.einsum("tij,tij->t", poses[1:, :3, :3], poses[:-1, :3, :3])
    angle = np.arccos(np.clip((turn - 1) / 2, -1, 1))
    jump = (way > NEAR_M + FASTEST_M_S * gap) | (angle > NEAR_RAD + FASTEST_RAD_S * gap)
    wrong = np.append(True, jump) & np.append(jump, True)
    if not wrong.any():
        return view
    count = int(wrong.sum())
    told = f"camera {view.name}: the poses of {count} of {len(poses)} frames jump (first at {seconds[wrong][0]:.1f} s)"
    if count > MOST_WRONG * len(poses):
        warnings.append(f"{told}; that are too many to leave out: check the poses, and their stamps")
        return view
    warnings.append(f"{told}; they are taken to be wrong and left out")
    return dataclasses.replace(view, T_world_camera=np.where(wrong[:, None, None], np.nan, poses))


def lost_frames(views: Sequence[View]) -> list[str]:
    """Return warnings of cameras that lost frames, as recorded."""
    warnings = []
    for view in views:
        steps = np.diff(view.times_ns)
        if len(steps) < 3:
            continue
        # A lost frame doubles a step; most steps are whole ones.
        lost = int(np.maximum(np.round(steps / np.quantile(steps, 0.2)) - 1, 0).sum())
        share = lost / (lost + len(view.times_ns))
        if lost >= 2 and share >= LOST_SHARE:
            warnings.append(
                f"camera {view.name}: about {lost} frames are missing ({100 * share:.0f} %, the longest gap is "
                f"{steps.max() * 1e-9:.2f} s)"
            )
    return warnings


def ended_cameras(views: Sequence[View]) -> list[str]:
    """Return warnings of cameras that ended before others did.

    Args:
        views: The views, with times on one clock.
    """
    start = min(int(view.times_ns[0]) for view in views)
    end = max(int(view.times_ns[-1]) for view in views)
    warnings = []
    for view in views:
        if end - view.times_ns[-1] <= ENDS_EARLY_S * 1e9:
            continue
        others = sum(bool(other.times_ns[-1] > view.times_ns[-1]) for other in views)
        left = "one camera sees" if others == 1 else f"{others} cameras see"
        warnings.append(
            f"camera {view.name} recorded nothing after {(view.times_ns[-1] - start) * 1e-9:.1f} s of "
            f"{(end - start) * 1e-9:.1f} s; from then on only {left} the person, and accuracy is lower"
        )
    return warnings
