"""Refinement of all keyframes together: every pair that sees the same surface is aligned, all poses at once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from bodydouble.frames import fix_rotation
from perception.tracking.align import agreeing, jacobian, moving_points, residuals, step_matrix, turned, weights
from perception.tracking.keyframes import Keyframes

NEIGHBOURS = 8
"""Most keyframes that each is paired with."""
MIN_OVERLAP = 0.25
"""Share of its points that a pair must see in common."""
MIN_AGREE = 0.5
"""Share of the compared points that must agree for a pair to count."""
SPREADS_M = (0.10, 0.06, 0.04, 0.025, 0.012, 0.012)
"""Depth difference that still pulls, per step."""
MOVING_BELOW_M = 0.05
"""Below this, what moved between keyframes is left out."""


def refine(keys: Keyframes) -> np.ndarray:
    """Move the keyframes to where all pairs that see the same surfaces agree best; the first keyframe stays.

    A bundle adjustment over dense depth and brightness by Gauss-Newton. Pairs of far apart times close the loops.

    Args:
        keys: The keyframes; their poses are changed.

    Returns:
        Share of its pairs' compared points that agree, per keyframe (K,).
    """
    count = len(keys)
    agree = np.ones(count)
    if count < 2:
        return agree
    for spread in SPREADS_M:
        pairs = _pairs(keys)
        rows, columns, values, b = [], [], [], np.zeros(6 * count)
        total, weight = np.zeros(count), np.zeros(count)
        for key, others in pairs:
            blocks = _pair_equations(keys, key, others, spread)
            for other, H_ss, H_sk, H_kk, b_s, b_k, share in blocks:
                total[key] += share
                weight[key] += 1
                b[6 * key : 6 * key + 6] += b_s
                b[6 * other : 6 * other + 6] += b_k
                for at, to, block in ((key, key, H_ss), (key, other, H_sk), (other, key, H_sk.T), (other, other, H_kk)):
                    r, c = np.indices((6, 6))
                    rows.append((6 * at + r).ravel())
                    columns.append((6 * to + c).ravel())
                    values.append(block.ravel())
        if not rows:
            return agree
        H = coo_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(6 * count, 6 * count)
        ).tocsc()
        damping = 1e-6 * H.diagonal().max()
        free = slice(6, None)
        H = H[free, free]
        H.setdiag(H.diagonal() + damping)
        steps = np.concatenate([np.zeros(6), -spsolve(H, b[free])]).reshape(count, 6)
        for key in range(1, count):
            # A step of decimetres is a pair that went wrong; it is shortened.
            step = steps[key] / max(1.0, np.linalg.norm(steps[key]) / 0.2)
            pose = keys.poses[key] @ step_matrix(step)
            pose[:3, :3] = fix_rotation(pose[:3, :3])
            keys.poses[key] = pose
        agree = np.where(weight > 0, total / np.maximum(weight, 1), 0)
    return agree


def _pairs(keys: Keyframes) -> list[tuple[int, np.ndarray]]:
    """Return each keyframe with those that it shares most with; near and far in time."""
    pairs = []
    for key in range(len(keys)):
        points = keys.sources[key].points
        overlap = keys.overlap(points[:: max(1, len(points) // 300)], keys.poses[key])
        overlap[key] = 0
        order = np.argsort(-overlap, kind="stable")
        order = order[overlap[order] >= MIN_OVERLAP]
        # Half of them the best, half spread over the rest, so that old and new keyframes are tied.
        rest = order[NEIGHBOURS // 2 :]
        spread = rest[np.unique(np.linspace(0, len(rest) - 1, NEIGHBOURS // 2).astype(int))] if len(rest) else rest
        chosen = np.concatenate([order[: NEIGHBOURS // 2], spread])
        if len(chosen):
            pairs.append((key, chosen))
    return pairs


def _pair_equations(keys: Keyframes, key: int, others: np.ndarray, spread: float):
    """Yield, per other keyframe, the blocks of the normal equations for source and target, and the agreeing share."""
    source = keys.sources[key]
    relative = np.linalg.inv(keys.poses[others]) @ keys.poses[key]
    found = residuals(source, relative, keys.maps[others], keys.camera)
    depth_weight, gray_weight = weights(found, spread)
    if spread < MOVING_BELOW_M:
        still = ~moving_points(found, source, keys.camera)
        depth_weight = depth_weight * still
        gray_weight = None if gray_weight is None else gray_weight * still
    compared = found.inside.sum(axis=1)
    share = agreeing(found, 6.0).sum(axis=1) / np.maximum(compared, 1)
    terms = [(found.depth, found.depth_slope, depth_weight)]
    if gray_weight is not None:
        assert found.gray is not None and found.gray_slope is not None
        used = gray_weight > 0
        off = np.array([np.median(g[u]) if u.any() else 0 for g, u in zip(found.gray, used, strict=True)], np.float32)
        terms.append((found.gray - off[:, None], found.gray_slope, gray_weight))
    for place, other in enumerate(others):
        if share[place] < MIN_AGREE or compared[place] < 200:
            continue
        H_ss, H_sk, H_kk = np.zeros((6, 6)), np.zeros((6, 6)), np.zeros((6, 6))
        b_s, b_k = np.zeros(6), np.zeros(6)
        for value, slope, weight in terms:
            s = jacobian(slope[place : place + 1], relative[place : place + 1], source.points)[0]
            # The keyframe moves the other way, about its own camera.
            k = -_own_jacobian(slope[place], found.local[place])
            w = weight[place]
            H_ss += (s * w) @ s.T
            H_sk += (s * w) @ k.T
            H_kk += (k * w) @ k.T
            b_s += (s * w) @ value[place]
            b_k += (k * w) @ value[place]
        yield int(other), H_ss, H_sk, H_kk, b_s, b_k, float(share[place])


def _own_jacobian(slope: np.ndarray, local: np.ndarray) -> np.ndarray:
    """Return the derivatives (6, N) by a motion (v, w) of the point in the keyframe's own camera."""
    rows = np.concatenate([slope, np.zeros_like(slope)])
    turned(rows[None], local)
    return rows
