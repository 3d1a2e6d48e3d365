"""Time offset of two cameras from the motion that both saw: their joints' paths must be one path.

For every offset the best yaw between the two worlds follows in closed form, so that neither the offset nor the
relative pose needs to be known before. What counts is how the joints move, each about its own mean: a shape that stays
the same, or an error of the joint network that does, agrees at every offset and says nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

from perception.multiview.paths import JointPath, at_times
from perception.multiview.yaw import best_yaw, yaw_matrix

NETWORK_M = 0.08
"""Constant difference of a joint seen from two sides that the joint network explains, m."""
STILL_M = 0.01
"""Motion of a joint that is no more than noise, m."""
BESIDE_S = 0.2
"""How far beside a peak its fall is measured, s."""


@dataclass(frozen=True)
class ClockConfig:
    """How the time offset is looked for."""

    max_offset_s: float = 10.0
    """Largest offset that is looked for, s; any is possible where the recorded stamps do not overlap at all."""
    rate_hz: float = 20.0
    """Rate at which paths are compared, Hz."""
    width_s: float = 0.08
    """Width of the bell curve that smooths the paths, s."""
    min_overlap_s: float = 2.0
    """Shortest time that both cameras must have seen the person, s."""
    independent_s: float = 0.25
    """Time after which the paths' errors are independent, s."""
    min_gain: float = 8.0
    """Log likelihood that the best offset must gain over no relation at all: chance reaches about 3."""
    min_margin: float = 6.0
    """Log likelihood that it must gain over any offset that is more than `apart_s` away."""
    max_deviation_s: float = 0.12
    """Largest standard deviation of the offset, s, as the correlation's fall beside its peak tells it."""
    apart_s: float = 0.6
    """Offsets that are farther apart than this compete, s."""


@dataclass(frozen=True)
class ClockCandidate:
    """One possible offset."""

    offset_s: float
    """Second camera's stamp minus the first's at the same moment, s."""
    yaw: float
    """Turn that takes the first camera's world to the second's, rad."""
    gain: float
    """Log likelihood over no relation."""
    correlation: float
    """Correlation of the two motions, 0 to 1: the one joint's that would gain as much."""
    overlap_s: float
    """Time that both saw the person, s."""
    deviation_s: float = np.inf
    """Standard deviation of the offset, s; infinite where the correlation does not fall beside its peak."""


def clock_candidates(
    first: JointPath, second: JointPath, config: ClockConfig, count: int = 5, *, placed: bool = False
) -> list[ClockCandidate]:
    """Return the best offsets, best first, none within `apart_s` of a better one.

    With a joint's paths x and y about their means over the overlap of n independent moments, and its r = 2 <y, R x> /
    (|x|^2 + |y|^2), an offset gains the joints' mean of -n/2 log(1 - r^2): a long overlap counts more than a short one
    that fits as well.

    Args:
        first: Joints that the first camera saw.
        second: Joints that the second camera saw.
        config: Settings.
        count: Most offsets to return.
        placed: Whether both paths are in one world already; then their places count too, not only how they move.
    """
    period = 1.0 / config.rate_hz
    a, start_a = _grid(first, period, config.width_s)
    b, start_b = _grid(second, period, config.width_s)
    weight = 1.0 / (np.median(first.scales, axis=0) ** 2 + np.median(second.scales, axis=0) ** 2)
    weight /= weight.sum()
    shifts = np.arange(-len(a) + 1, len(b))
    offsets = start_b - start_a + shifts * period
    possible = np.abs(offsets) <= config.max_offset_s + 0.5 * period
    if first.times_s[0] > second.times_s[-1] or second.times_s[0] > first.times_s[-1]:
        possible[:] = True
    found = [
        _compare(a, b, int(shift), float(offset), weight, config, placed)
        for shift, offset in zip(shifts[possible], offsets[possible], strict=True)
    ]
    gains = np.array([-np.inf if one is None else one.gain for one in found])
    best: list[ClockCandidate] = []
    while len(best) < count and len(gains) and np.isfinite(gains.max()):
        top = int(gains.argmax())
        one = found[top]
        assert one is not None
        peaked = 0 < top < len(gains) - 1 and np.isfinite(gains[[top - 1, top + 1]]).all()
        part = _parabola(gains[top - 1 : top + 2]) if peaked else 0.0
        # A side of a higher peak that was taken already is no peak of its own.
        if all(abs(one.offset_s - other.offset_s) > config.apart_s for other in best) and peaked:
            deviation = _deviation(found, top, period, config)
            best.append(dataclasses.replace(one, offset_s=one.offset_s + part * period, deviation_s=deviation))
        gains[top] = -np.inf
    return best


def determined(candidates: list[ClockCandidate], config: ClockConfig) -> bool:
    """Return whether the motion tells the best offset from no relation, from its neighbours and from all others."""
    if not candidates or candidates[0].gain < config.min_gain or candidates[0].correlation < 0.5:
        return False
    if candidates[0].deviation_s > config.max_deviation_s:
        return False
    return len(candidates) == 1 or candidates[0].gain - candidates[1].gain >= config.min_margin


def refine_clock(
    first: JointPath, second: JointPath, offset_s: float, yaw: float, config: ClockConfig, *, fix_yaw: bool
) -> tuple[float, float]:
    """Return offset in s and yaw in rad that bring the two paths together best, to a fraction of a frame.

    Robust least squares over the offset, the yaw and one constant shift per joint, which takes up what the joint
    network sees differently from each side.

    Args:
        first: Joints that the first camera saw.
        second: Joints that the second camera saw.
        offset_s: Offset to start from, s.
        yaw: Yaw to start from, rad.
        config: Settings.
        fix_yaw: Whether the yaw is known already.
    """
    period = 0.5 / config.rate_hz
    grid = np.arange(second.times_s[0], second.times_s[-1], period)
    y = at_times(second, grid, config.width_s)
    low, high = first.times_s[0], first.times_s[-1]
    fine = np.arange(low, high, period)
    x = at_times(first, fine, config.width_s)
    known = np.isfinite(x).all(axis=(1, 2))
    spline = CubicSpline(fine[known], x[known])
    # Times of the second camera at which both know the person, wherever within 0.2 s the offset ends.
    ask = grid - offset_s
    gap = np.interp(ask, fine, (~known).astype(float), left=1.0, right=1.0)
    near_gap = np.convolve(gap > 0, np.ones(2 * round(0.2 / period) + 1), mode="same") > 0
    used = np.isfinite(y).all(axis=(1, 2)) & ~near_gap
    grid, y = grid[used], y[used]

    if len(grid) < 10:
        return offset_s, yaw

    def apart(unknown: np.ndarray) -> np.ndarray:
        turned = spline(grid - unknown[0]) @ yaw_matrix(yaw if fix_yaw else unknown[1]).T
        return (y - turned) - np.median(y - turned, axis=0)

    found = np.array([offset_s]) if fix_yaw else np.array([offset_s, yaw])
    for _ in range(2):
        # Each joint counts by how well its two paths agree: what one side hides or mixes up counts little.
        error = np.maximum(1.5 * np.median(np.linalg.norm(apart(found), axis=-1), axis=0), STILL_M)[:, None]
        result = least_squares(
            lambda unknown, error: (apart(unknown) / error).ravel(), found, args=(error,), loss="cauchy",
            x_scale=0.01, diff_step=1e-4,
        )  # fmt: skip
        found = result.x
    if abs(found[0] - offset_s) > 0.2:
        return offset_s, yaw
    return float(found[0]), yaw if fix_yaw else float(found[1])


def _grid(path: JointPath, period: float, width_s: float) -> tuple[np.ndarray, float]:
    """Return the joints (T, J, 3) at even times, NaN in gaps, and the first time."""
    start = float(path.times_s[0])
    return at_times(path, start + period * np.arange(round((path.times_s[-1] - start) / period) + 1), width_s), start


def _compare(
    a: np.ndarray, b: np.ndarray, shift: int, offset: float, weight: np.ndarray, config: ClockConfig, placed: bool
) -> ClockCandidate | None:
    """Return how well b, `shift` samples on, repeats a; None where they overlap too little."""
    first = max(0, -shift)
    count = min(len(a) - first, len(b) - first - shift)
    if count < config.min_overlap_s * config.rate_hz:
        return None
    x, y = a[first : first + count], b[first + shift : first + shift + count]
    both = np.isfinite(x).all(axis=(1, 2)) & np.isfinite(y).all(axis=(1, 2))
    overlap_s = both.sum() / config.rate_hz
    if overlap_s < config.min_overlap_s:
        return None
    x, y = x[both], y[both]
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    # Places that are known to be one may differ by what the joint network errs, and no more.
    beyond = np.maximum(np.linalg.norm(mean_y - mean_x, axis=1) - NETWORK_M, 0.0) if placed else np.zeros(len(weight))
    apart = 0.5 * len(x) * beyond**2
    dx, dy = x - mean_x, y - mean_y
    moving = np.einsum("tji,tjk->jik", dy, dx)
    # Each joint has an error of its own: a foot that one side takes for the other must not drown the head.
    energy = (dx**2).sum(axis=(0, 2)) + (dy**2).sum(axis=(0, 2)) + 2 * len(x) * STILL_M**2 + apart
    turn, joint = 0.0, weight
    for _ in range(1 if placed else 3):
        if not placed:
            # The yaw comes from the moving and the constant part together.
            shape_x, shape_y = mean_x - joint @ mean_x, mean_y - joint @ mean_y
            constant = len(x) * np.einsum("ji,jk,j->ik", shape_y, shape_x, joint)
            turn = float(best_yaw(np.einsum("jik,j->ik", moving, joint) + constant))
        each = np.clip((2 * np.einsum("jik,ik->j", moving, yaw_matrix(turn)) - apart) / energy, 0.0, 1 - 1e-9)
        joint = weight * (0.01 + each**2)
        joint = joint / joint.sum()
    moments = overlap_s / config.independent_s
    gain = -0.5 * float(moments) * float(weight @ np.log1p(-(each**2)))
    correlation = float(np.sqrt(-np.expm1(-2 * gain / moments)))
    return ClockCandidate(offset, turn, gain, correlation, float(overlap_s))


def _deviation(found: list[ClockCandidate | None], top: int, period: float, config: ClockConfig) -> float:
    """Return the standard deviation of an offset, s, from how the likelihood of one same overlap falls beside it.

    A walk along a line at one speed correlates at every offset, and only the overlap makes a peak: that tells nothing.
    """
    beside = round(BESIDE_S / period)
    best = found[top]
    assert best is not None
    moments, falls = best.overlap_s / config.independent_s, []
    for other in (found[place] for place in (top - beside, top + beside) if 0 <= place < len(found)):
        if other is not None:
            ratio = (1 - max(other.correlation, 0.0) ** 2) / (1 - best.correlation**2)
            falls.append(0.5 * moments * np.log(ratio))
    fall = min(falls, default=0.0)
    return float(beside * period / np.sqrt(2 * fall)) if fall > 0 else np.inf


def _parabola(values: np.ndarray) -> float:
    """Return where the top of the parabola through three even samples is, in samples from the middle one."""
    bend = values[0] - 2 * values[1] + values[2]
    return float(np.clip(0.5 * (values[0] - values[2]) / bend, -0.5, 0.5)) if bend < 0 else 0.0
