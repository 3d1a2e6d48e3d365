"""A person of sticks for tests: standing, squatting, bowing, reaching and stepping, with exact joint positions."""

from __future__ import annotations

import numpy as np

from bodydouble.motion import HumanMotion

THIGH, SHIN, TORSO, UPPER_ARM, FOREARM = 0.43, 0.42, 0.50, 0.29, 0.26
HIP_WIDTH, SHOULDER_WIDTH, ANKLE_HEIGHT, TOE = 0.20, 0.36, 0.09, 0.20
STANDING_HIPS = ANKLE_HEIGHT + 0.995 * (THIGH + SHIN)
ROLES = ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist")


def ease(times: np.ndarray, start: float, end: float) -> np.ndarray:
    s = np.clip((times - start) / (end - start), 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def pulse(times: np.ndarray, start: float, end: float) -> np.ndarray:
    middle = 0.5 * (start + end)
    return ease(times, start, middle - 0.1) - ease(times, middle + 0.1, end)


def rotation(yaw: np.ndarray, lean: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3): turned about the vertical, then leaning forwards."""
    cy, sy, cl, sl = np.cos(yaw), np.sin(yaw), np.cos(lean), np.sin(lean)
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    turn = np.stack([cy, -sy, zero, sy, cy, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    tilt = np.stack([cl, zero, sl, zero, one, zero, -sl, zero, cl], -1).reshape(-1, 3, 3)
    return turn @ tilt


def person(
    times: np.ndarray,
    *,
    drop: np.ndarray | float = 0.0,
    lean: np.ndarray | float = 0.0,
    raise_arms: np.ndarray | float = 0.0,
    walk: np.ndarray | None = None,
    feet: np.ndarray | None = None,
    contact: np.ndarray | None = None,
    yaw: float = 0.0,
    back: np.ndarray | float = 0.0,
) -> HumanMotion:
    """A person at times (T,) whose hips drop, trunk leans and arms rise; feet (T, 2, 3) are ankle positions."""
    count = len(times)
    drop, lean, arms, back = (np.broadcast_to(v, (count,)).astype(float) for v in (drop, lean, raise_arms, back))
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    left = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    if feet is None:
        feet = np.stack([np.tile(side * 0.5 * HIP_WIDTH * left, (count, 1)) for side in (1, -1)], 1)
        feet[..., 2] = ANKLE_HEIGHT
    travel = np.zeros((count, 3)) if walk is None else walk
    hips = travel + np.array([0, 0, STANDING_HIPS]) - drop[:, None] * [0, 0, 1.0] - back[:, None] * forward
    trunk = rotation(np.full(count, yaw), lean)
    joints: dict[str, np.ndarray] = {}
    for i, (side, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        hip = hips + sign * 0.5 * HIP_WIDTH * left
        ankle = feet[:, i]
        joints[f"{side}_hip"], joints[f"{side}_ankle"] = hip, ankle
        joints[f"{side}_knee"] = knee(hip, ankle, forward)
        joints[f"{side}_toe"] = ankle + TOE * forward - [0, 0, 0.06]
        shoulder = hips + np.einsum("tij,j->ti", trunk, np.array([0, sign * 0.5 * SHOULDER_WIDTH, TORSO]))
        direction = np.stack([np.sin(arms), np.full(count, sign * 0.08), -np.cos(arms)], -1)
        direction = np.einsum("tij,tj->ti", trunk, direction / np.linalg.norm(direction, axis=1, keepdims=True))
        bent = arms + 0.3
        fore = np.einsum("tij,tj->ti", trunk, np.stack([np.sin(bent), 0 * bent, -np.cos(bent)], -1))
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"] = shoulder + UPPER_ARM * direction
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + FOREARM * fore
    names = tuple(f"{side}_{role}" for role in ROLES for side in ("left", "right"))
    positions = np.stack([joints[name] for name in names], 1)
    contact = np.ones((count, 2)) if contact is None else contact
    return HumanMotion(
        times_ns=np.round(times * 1e9).astype(np.int64),
        joint_names=names,
        joint_pos=positions,
        joint_quat=np.tile([1.0, 0, 0, 0], (count, len(names), 1)),
        contact_names=("left_foot", "right_foot"),
        contact=contact,
        contact_pos=feet,
        body_model="sticks",
        shape_names=(),
        shape=np.zeros(0),
        pose=np.zeros((count, 0, 4)),
        root_pos=hips,
    )


def knee(hip: np.ndarray, ankle: np.ndarray, forward: np.ndarray) -> np.ndarray:
    line = ankle - hip
    length = np.clip(np.linalg.norm(line, axis=1), 0.2, 0.9999 * (THIGH + SHIN))
    axis = line / np.linalg.norm(line, axis=1, keepdims=True)
    along = (THIGH**2 - SHIN**2 + length**2) / (2 * length)
    out = np.sqrt(np.maximum(THIGH**2 - along**2, 0))
    bend = forward - np.sum(forward * axis, axis=1, keepdims=True) * axis
    return hip + along[:, None] * axis + out[:, None] * bend / np.linalg.norm(bend, axis=1, keepdims=True)


def squat_and_reach(seconds: float = 8.0, rate: float = 30.0, yaw: float = 0.3) -> HumanMotion:
    """Stands, squats, stands, bows with arms ahead, stands."""
    times = np.arange(int(seconds * rate)) / rate
    down, bow = pulse(times, 0.8, 3.6), pulse(times, 4.2, 7.2)
    return person(
        times,
        drop=0.30 * down,
        lean=0.35 * down + 0.7 * bow,
        raise_arms=1.2 * down + 1.4 * bow,
        back=0.12 * bow,
        yaw=yaw,
    )


def step_forward(rate: float = 30.0) -> HumanMotion:
    """Stands, steps half a metre ahead with the left foot, then with the right one, stands."""
    times = np.arange(int(6.0 * rate)) / rate
    feet = np.zeros((len(times), 2, 3))
    contact = np.ones((len(times), 2))
    for i, (sign, start) in enumerate(((1.0, 1.5), (-1.0, 3.0))):
        share = ease(times, start, start + 0.8)
        feet[:, i, 0], feet[:, i, 1] = 0.5 * share, sign * 0.5 * HIP_WIDTH
        feet[:, i, 2] = ANKLE_HEIGHT + 0.12 * np.sin(np.pi * share) ** 2
        contact[(times > start) & (times < start + 0.8), i] = 0.0
    walk = np.stack([0.5 * ease(times, 1.2, 4.2), np.zeros(len(times)), np.zeros(len(times))], -1)
    walk[:, 1] = -0.06 * pulse(times, 0.9, 2.7) + 0.06 * pulse(times, 2.6, 4.3)
    return person(
        times, drop=0.06 * (ease(times, 0.5, 1.2) - ease(times, 4.2, 5.0)), walk=walk, feet=feet, contact=contact
    )
