"""How good camera tracking is on a recording whose poses are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bodydouble.errors import InputError
from perception.camera_metrics import ate
from perception.tracking.tracker import TrackingConfig, track_cameras
from perception.views import load_views


@dataclass(frozen=True)
class TrackingFigures:
    """Errors of one camera's trajectory."""

    ate_m: float
    """Absolute trajectory error: RMSE of the positions after rigid alignment, m."""
    lost: float
    """Share of frames without a pose."""


def trajectory_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the RMSE of the camera positions after rigid alignment without scale, m (Sturm et al. 2012).

    Args:
        found: Tracked poses (F, 4, 4); frames that are NaN are left out.
        truth: True poses (F, 4, 4); likewise.

    Raises:
        InputError: The shapes differ, or fewer than three frames have both poses.
    """
    if found.shape != truth.shape or found.shape[1:] != (4, 4):
        raise InputError(f"trajectories have shapes {found.shape} and {truth.shape}, expected (F, 4, 4) twice")
    both = np.isfinite(found).all(axis=(1, 2)) & np.isfinite(truth).all(axis=(1, 2))
    if both.sum() < 3:
        raise InputError(f"{both.sum()} frames have poses in both trajectories, expected at least 3")
    return ate(found[both, :3, 3], truth[both, :3, 3])


def tracking_error(
    recording: Path, truth: Sequence[np.ndarray] | None = None, config: TrackingConfig | None = None
) -> dict[str, TrackingFigures]:
    """Track the cameras of a recording without its poses and compare with the true ones, by camera name.

    Args:
        recording: The recording (.mcap).
        truth: True poses (F, 4, 4) of each camera; without them the recording's own poses are the truth.
        config: Settings of tracking.

    Raises:
        RecordingError: The recording is damaged.
        InputError: A camera cannot be tracked, or there are no true poses.
    """
    views = load_views(recording, 1e9, require_poses=False)
    true_poses = [view.T_world_camera for view in views] if truth is None else list(truth)
    if len(true_poses) != len(views):
        raise InputError(f"{recording}: true poses of {len(true_poses)} cameras, the recording has {len(views)}")
    unknown = [replace(view, T_world_camera=np.full_like(view.T_world_camera, np.nan)) for view in views]
    figures = {}
    for view, tracked, poses in zip(views, track_cameras(unknown, config), true_poses, strict=True):
        lost = float((tracked.quality == 0).mean())
        figures[view.name] = TrackingFigures(trajectory_error(tracked.T_world_camera, poses), lost)
    return figures
