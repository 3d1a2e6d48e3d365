"""Reprojection of the body's joints against 2D keypoints, as a term of the fit.

A keypoint's residual is the joint's distance to the keypoint's ray, at the joint's depth, in metres: so that it weighs
alike near and far, and against the distances to points. It is robust (Geman and McClure): a keypoint that is far off
pulls little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_matrix, quat_slerp, quat_to_matrix, se3_inverse
from perception.body.anny_body import BodyState
from perception.body.jacobian import JOINT_INFLUENCE, Motions
from perception.clip_solver import ClipEquations
from perception.keypoints.file import Keypoints, load_keypoints
from perception.views import View

_MIN_DEPTH_M = 0.2


@dataclass(frozen=True)
class KeypointConfig:
    """How keypoints pull."""

    weight: float = 100.0
    """Weight of all keypoints of a frame together, 1/m^2; the person's points have about 400."""
    reach_m: float = 0.15
    """Distance of a joint to its keypoint's ray at which the keypoint has lost most of its pull, m."""
    min_confidence: float = 0.3
    """Confidence below which a keypoint does not count."""
    max_gap_s: float = 0.1
    """Longest time between two images over which keypoints are interpolated, s."""


@dataclass(frozen=True, eq=False)
class _Sightings:
    """One camera's keypoints at the person's times. T frames, K joints."""

    joints: torch.Tensor
    """Which of JOINT_NAMES (K,)."""
    rays: torch.Tensor
    """x / z and y / z (T, K, 2)."""
    confidence: torch.Tensor
    """(T, K), 0 where there is none."""
    rotation: torch.Tensor
    """World to camera (T, 3, 3)."""
    shift: torch.Tensor
    """(T, 3), m."""


class ReprojectionTerm:
    """A term of the fit (`perception.clip_fit.FitTerm`).

    Args:
        keypoints: By camera; cameras that are not among the views are refused.
        views: The cameras in the person's world and on the common clock.
        times_ns: The person's times (T,), common clock.
        clock_offset_ns: Recorded stamp minus common time by camera, ns; 0 where it is not given.
        config: Settings.

    Raises:
        InputError: A camera that is not there, or keypoints of another time than the person's.
    """

    def __init__(
        self,
        keypoints: Sequence[Keypoints],
        views: Sequence[View],
        times_ns: np.ndarray,
        clock_offset_ns: Mapping[str, int] | None = None,
        config: KeypointConfig | None = None,
    ):
        self._config = config or KeypointConfig()
        by_name = {view.name: view for view in views}
        check_cameras(keypoints, list(by_name))
        offsets = clock_offset_ns or {}
        self._sightings = []
        for found in keypoints:
            shifted = found.times_ns - offsets.get(found.camera, 0)
            self._sightings.append(_at_times(found, shifted, by_name[found.camera], times_ns, self._config))
        if self._sightings and not any(bool((seen.confidence > 0).any()) for seen in self._sightings):
            raise InputError("keypoints: none falls on a time of the person; check times_ns and the confidences")

    def add(self, equations: ClipEquations, motions: Motions, state: BodyState, frames: np.ndarray, start: int) -> None:
        """Add the residuals of some frames; see `perception.clip_fit.FitTerm`."""
        total = sum(seen.confidence[frames].sum(dim=1) for seen in self._sightings)
        if isinstance(total, int):
            return
        share = self._config.weight / total.clamp_min(1e-6)
        for seen in self._sightings:
            points = state.joint_pos[:, seen.joints]
            rotation = seen.rotation[frames]
            local = points @ rotation.transpose(1, 2) + seen.shift[frames][:, None]
            depth = local[..., 2]
            front = depth > _MIN_DEPTH_M
            ray = local[..., :2] / depth.clamp_min(_MIN_DEPTH_M)[..., None]
            residual = (ray - seen.rays[frames]) * depth[..., None]
            # d (x / z) times z, the depth itself held: the first two axes less the ray times the third.
            across = rotation[:, None, :2] - ray[..., None] * rotation[:, None, 2:]
            rows = across @ motions.point_rows(points, JOINT_INFLUENCE[seen.joints])
            squared = (residual**2).sum(-1) / self._config.reach_m**2
            weight = share[:, None] * seen.confidence[frames] * front / (1 + squared) ** 2
            both = weight[..., None].expand_as(residual)
            equations.add(rows.flatten(1, 2), residual.flatten(1), both.flatten(1), start=start)


def check_cameras(keypoints: Sequence[Keypoints], names: Sequence[str]) -> None:
    """Refuse keypoints of a camera that is not there.

    Raises:
        InputError: The first such camera.
    """
    for found in keypoints:
        if found.camera not in names:
            raise InputError(
                f"keypoints of camera {found.camera!r}: the recording's cameras are {', '.join(names)}; rename it"
            )


def read_keypoints(path: Path, recording: Path) -> list[Keypoints]:
    """Return the keypoints that a path stands for.

    Args:
        path: A file of keypoints (.npz), a folder of them, or a detector (.onnx), which is run on the recording.
        recording: The recording (.mcap).

    Raises:
        InputError: It is none of these, or damaged.
    """
    if path.suffix == ".onnx":
        from perception.keypoints.detector import KeypointDetector, detect_recording

        return list(detect_recording(recording, KeypointDetector(path)))
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: holds no .npz file of keypoints")
    found = [load_keypoints(file) for file in files]
    names = [keypoints.camera for keypoints in found]
    if len(set(names)) != len(names):
        raise InputError(f"{path}: two files are of the same camera; leave one out")
    return found


def _at_times(
    found: Keypoints, stamps: np.ndarray, view: View, times_ns: np.ndarray, config: KeypointConfig
) -> _Sightings:
    """Return a camera's keypoints and poses interpolated at the person's times."""
    own, joints = found.body_joints()
    sure = np.where(found.confidence >= config.min_confidence, found.confidence, 0.0)[:, own]
    before, share, near = _between(stamps, times_ns, config.max_gap_s)
    after = np.minimum(before + 1, len(stamps) - 1)
    pixels = np.where(sure[..., None] > 0, found.pixels[:, own], 0.0)
    mixed = (1 - share)[:, None, None] * pixels[before] + share[:, None, None] * pixels[after]
    # Both ends must be sure, but for an end that does not count.
    first = np.where((share < 1)[:, None], sure[before], 1.0)
    second = np.where((share > 0)[:, None], sure[after], 1.0)
    confidence = np.minimum(first, second) * near[:, None]
    K = view.K
    rays = np.stack([(mixed[..., 0] - K[0, 2]) / K[0, 0], (mixed[..., 1] - K[1, 2]) / K[1, 1]], axis=-1)
    T_camera_world, posed = _poses(view, times_ns, config.max_gap_s)
    return _Sightings(
        torch.as_tensor(joints),
        torch.as_tensor(rays, dtype=torch.float32),
        torch.as_tensor(confidence * posed[:, None], dtype=torch.float32),
        torch.as_tensor(T_camera_world[:, :3, :3], dtype=torch.float32),
        torch.as_tensor(T_camera_world[:, :3, 3], dtype=torch.float32),
    )


def _poses(view: View, times_ns: np.ndarray, max_gap_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return T_camera_world (T, 4, 4) at some times, and whether it is known (T,)."""
    known = np.isfinite(view.T_world_camera).all(axis=(1, 2))
    stamps, poses = view.times_ns[known], view.T_world_camera[known]
    if not len(stamps):
        return np.broadcast_to(np.eye(4), (len(times_ns), 4, 4)), np.zeros(len(times_ns), bool)
    before, share, near = _between(stamps, times_ns, max_gap_s)
    after = np.minimum(before + 1, len(stamps) - 1)
    quat = quat_from_matrix(poses[:, :3, :3])
    out = np.zeros((len(times_ns), 4, 4))
    out[:, :3, :3] = quat_to_matrix(quat_slerp(quat[before], quat[after], share))
    out[:, :3, 3] = (1 - share)[:, None] * poses[before, :3, 3] + share[:, None] * poses[after, :3, 3]
    out[:, 3, 3] = 1.0
    return se3_inverse(out), near


def _between(stamps: np.ndarray, times: np.ndarray, max_gap_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the stamp before each time (T,), the share of the way to the next (T,), and whether both are near (T,)."""
    before = np.clip(np.searchsorted(stamps, times, side="right") - 1, 0, max(len(stamps) - 2, 0))
    after = np.minimum(before + 1, len(stamps) - 1)
    gap = np.maximum(stamps[after] - stamps[before], 1)
    share = np.clip((times - stamps[before]) / gap, 0.0, 1.0)
    nearest = np.minimum(np.abs(times - stamps[before]), np.abs(times - stamps[after]))
    inside = (times >= stamps[before]) & (times <= stamps[after]) & (gap <= max_gap_s * 1e9)
    # A time beside a gap or the ends belongs to the image that it all but falls on.
    return before, np.where(inside, share, np.rint(share)), inside | (nearest <= 1_000_000)
