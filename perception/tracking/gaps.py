"""Frames without a pose: jumps that are not believed, short gaps that are bridged."""

from __future__ import annotations

import numpy as np

from bodydouble.frames import make_se3, quat_from_matrix, quat_slerp, quat_to_matrix

BRIDGED = 0.05
"""Quality of a pose that is interpolated over a gap."""


def frame_runs(which: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last frame of each run of frames (F,) that are set."""
    edge = np.diff(np.concatenate([[False], which, [False]]).astype(np.int8))
    first, end = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    return [(int(a), int(b) - 1) for a, b in zip(first, end, strict=True)]


def jumps(times_ns: np.ndarray, poses: np.ndarray, quality: np.ndarray, max_speed_m_s: float) -> np.ndarray:
    """Return which frames (F,) are on one side of a jump that no hand makes: of the two sides, the shorter run.

    Args:
        times_ns: Times of the frames (F,), ns.
        poses: Poses (F, 4, 4); NaN where lost.
        quality: Quality (F,); 0 where lost.
        max_speed_m_s: Highest speed that is believed, m/s.
    """
    wrong = np.zeros(len(times_ns), bool)
    tracked = np.flatnonzero(quality > 0)
    if len(tracked) < 2:
        return wrong
    step = np.linalg.norm(np.diff(poses[tracked, :3, 3], axis=0), axis=1)
    # 2 cm are within the error of a single pose.
    jump = step > 0.02 + max_speed_m_s * np.diff(times_ns[tracked]) * 1e-9
    runs = np.split(tracked, np.flatnonzero(jump) + 1)
    longest = max(range(len(runs)), key=lambda run: len(runs[run]))
    kept = runs[longest]
    for order in (range(longest + 1, len(runs)), range(longest - 1, -1, -1)):
        edge = kept[-1] if order.step > 0 else kept[0]
        for run in order:
            near = runs[run][0] if order.step > 0 else runs[run][-1]
            gap = np.linalg.norm(poses[near, :3, 3] - poses[edge, :3, 3])
            if gap > 0.02 + max_speed_m_s * abs(int(times_ns[near]) - int(times_ns[edge])) * 1e-9:
                wrong[runs[run]] = True
            else:
                edge = runs[run][-1] if order.step > 0 else runs[run][0]
    return wrong


def bridged(
    times_ns: np.ndarray, poses: np.ndarray, quality: np.ndarray, max_gap_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return poses (F, 4, 4) and quality (F,) with short gaps filled by interpolation, and NaN in all other gaps.

    Args:
        times_ns: Times of the frames (F,), ns.
        poses: Poses (F, 4, 4).
        quality: Quality (F,); 0 where lost.
        max_gap_s: Longest time between the poses before and after a gap, s.
    """
    poses, quality = poses.copy(), quality.copy()
    lost = quality == 0
    poses[lost] = np.nan
    for first, last in frame_runs(lost):
        before, after = first - 1, last + 1
        if before < 0 or after >= len(times_ns) or (times_ns[after] - times_ns[before]) * 1e-9 > max_gap_s:
            continue
        gap = slice(first, last + 1)
        share = (times_ns[gap] - times_ns[before]) / (times_ns[after] - times_ns[before])
        a, b = quat_from_matrix(poses[before, :3, :3]), quat_from_matrix(poses[after, :3, :3])
        turn = quat_to_matrix(quat_slerp(np.tile(a, (len(share), 1)), np.tile(b, (len(share), 1)), share))
        place = poses[before, :3, 3] + share[:, None] * (poses[after, :3, 3] - poses[before, :3, 3])
        poses[gap], quality[gap] = make_se3(turn, place), BRIDGED
    return poses, quality
