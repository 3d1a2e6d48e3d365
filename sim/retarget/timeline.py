"""Puts a clip between two still stands in the robot's default pose, feet included."""

from __future__ import annotations

import dataclasses

import numpy as np

from bodydouble.frames import quat_from_axis_angle, quat_slerp
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import Foothold, FootPlan, clean_contacts, find_footholds, min_jerk, plan_feet
from sim.retarget.scene import Scene
from sim.retarget.targets import BodyTargets, Proportions

_Stance = tuple[np.ndarray, float]
"""Middle of the feet (2,) in m and heading in rad."""


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """Targets and foot plan of the whole motion."""

    targets: BodyTargets
    """Targets at every frame."""
    feet: FootPlan
    """Foot plan at every frame."""
    clip_start: int
    """Frame of the clip's first frame."""
    clip_end: int
    """Frame after the clip's last one."""


def build_timeline(
    targets: BodyTargets,
    contact: np.ndarray,
    robot: Proportions,
    config: RetargetConfig,
    scene: Scene | None = None,
) -> Timeline:
    """Return targets that start and end standing still in the default pose.

    Args:
        targets: Targets of the clip's T frames.
        contact: Contact probabilities (T, 2) of the feet.
        robot: The robot's proportions.
        config: Settings.
        scene: What stands on the floor, scaled as the targets are; None for nothing.

    The feet of the first and the last stand are put into the default stance, so a clip that begins on both feet
    needs no step; a foot that swings when the clip begins steps there during the transition.
    """
    hold, blend = (round(seconds * config.fps) for seconds in (config.hold_s, config.transition_s))
    edge, clip = hold + blend, len(contact)
    frames = clip + 2 * edge
    standing = np.stack([_standing(contact[:, foot], hold, blend, config) for foot in range(2)], axis=1)
    path = _pad(targets.foot_path, edge)
    yaw = _pad(targets.foot_yaw, edge)
    holds = tuple(find_footholds(standing[:, foot], path[:, foot], yaw[:, foot], scene) for foot in range(2))
    holds, start, end = _settle(holds, edge, edge + clip, robot)
    pitch = _pad(targets.foot_pitch, edge)
    feet = plan_feet(holds, path, yaw, pitch, config.fps, config.min_clearance_m)

    share = np.zeros(frames)
    ramp = min_jerk(np.arange(1, blend + 1) / (blend + 1))
    share[hold:edge], share[edge : edge + clip], share[edge + clip : frames - hold] = ramp, 1.0, ramp[::-1]
    first, last = np.arange(frames) < frames // 2, np.arange(frames) >= frames // 2
    out: dict[str, np.ndarray] = {"foot_path": path, "foot_yaw": yaw, "foot_pitch": pitch}
    weight = share[:, None]
    out["pelvis_pos"] = np.empty((frames, 3))
    still_quat = np.empty((frames, 4))
    coasting = _coast(targets.pelvis_pos, edge, config.fps)
    grounds = [float(np.mean([foot[i].z for foot in holds])) for i in (0, -1)]
    for mask, (middle, heading), ground in ((first, start, grounds[0]), (last, end, grounds[1])):
        still = _root_of(middle, heading, robot) + np.array([0.0, 0.0, ground])
        out["pelvis_pos"][mask] = still + weight[mask] * (coasting[mask] - still)
        still_quat[mask] = quat_from_axis_angle(np.array([0.0, 0.0, 1.0]), np.array(heading))
    for name in ("pelvis_quat", "torso_quat"):
        out[name] = quat_slerp(still_quat, _pad(getattr(targets, name), edge), share)
    for name, still in (("elbow", robot.elbow_offset), ("wrist", robot.wrist_offset)):
        moving = _pad(getattr(targets, name), edge)
        out[name] = still + share[:, None, None] * (moving - still)
    out["hand"] = _pad(targets.hand, edge)
    out["hand_contact"] = np.zeros((frames, 2))
    out["hand_contact"][edge : edge + clip] = targets.hand_contact
    return Timeline(BodyTargets(**out), feet, edge, edge + clip)


def _standing(contact: np.ndarray, hold: int, blend: int, config: RetargetConfig) -> np.ndarray:
    """Return when one foot stands: contacts of the clip, cleaned, between the stands at both ends."""
    clip = contact > config.contact_threshold
    clip = clean_contacts(clip, round(config.min_contact_s * config.fps), round(config.min_swing_s * config.fps))
    half = np.arange(blend) < blend // 2
    before = np.concatenate([np.ones(hold, bool), half | clip[0]])
    after = np.concatenate([half[::-1] | clip[-1], np.ones(hold, bool)])
    return np.concatenate([before, clip, after])


def _pad(values: np.ndarray, edge: int) -> np.ndarray:
    return np.concatenate([np.repeat(values[:1], edge, axis=0), values, np.repeat(values[-1:], edge, axis=0)])


def _coast(positions: np.ndarray, edge: int, fps: float) -> np.ndarray:
    """Return positions (T, 3) padded at both ends, leaving and reaching the clip at its own horizontal speed."""
    out = _pad(positions, edge)
    times = np.arange(1, edge + 1) / fps
    decay = 0.25
    travelled = decay * (1.0 - np.exp(-times / decay))
    window = min(5, len(positions) - 1)
    for sign, velocity, part in (
        (-1.0, positions[window] - positions[0], out[edge - 1 :: -1] if edge else out[:0]),
        (1.0, positions[-1] - positions[-1 - window], out[len(out) - edge :]),
    ):
        part[:, :2] += sign * (velocity[:2] * fps / window) * travelled[:, None]
    return out


def _rotate(yaw: float, vector: np.ndarray) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def _root_of(middle: np.ndarray, heading: float, robot: Proportions) -> np.ndarray:
    offset = _rotate(heading, robot.ankle_offset[:, :2].mean(axis=0))
    return np.array([middle[0] - offset[0], middle[1] - offset[1], robot.standing_height])


def _settle(
    holds: tuple[list[Foothold], ...], clip_start: int, clip_end: int, robot: Proportions
) -> tuple[tuple[list[Foothold], list[Foothold]], _Stance, _Stance]:
    """Put the first and the last footholds into the default stance."""
    left, right = (list(foot) for foot in holds)
    out = (left, right)
    half = robot.ankle_offset[:, :2] - robot.ankle_offset[:, :2].mean(axis=0)
    in_clip = [foot[0].end > clip_start for foot in out]
    start = _stance([foot[0] for foot in out], _fixed(in_clip), half)
    for i, foot in enumerate(out):
        foot[0] = _place(foot[0], start, half[i])
    # A foot that never lifts stays where it is; the other one comes to it.
    never_lifts = [len(foot) == 1 for foot in out]
    in_clip = [foot[-1].start < clip_end for foot in out]
    end = _stance([foot[-1] for foot in out], never_lifts if any(never_lifts) else _fixed(in_clip), half)
    for i, foot in enumerate(out):
        if not never_lifts[i]:
            foot[-1] = _place(foot[-1], end, half[i])
    return out, start, end


def _fixed(in_clip: list[bool]) -> list[bool]:
    """Return which feet's own footholds count: those that stand in the clip, both if neither or both do."""
    return in_clip if any(in_clip) else [True, True]


def _stance(feet: list[Foothold], counts: list[bool], half: np.ndarray) -> _Stance:
    chosen = [i for i in range(2) if counts[i]]
    heading = float(np.mean([feet[i].yaw for i in chosen]))
    middles = [np.array([feet[i].x, feet[i].y]) - _rotate(heading, half[i]) for i in chosen]
    return np.mean(middles, axis=0), heading


def _place(foothold: Foothold, stance: _Stance, offset: np.ndarray) -> Foothold:
    place = stance[0] + _rotate(stance[1], offset)
    return dataclasses.replace(foothold, x=float(place[0]), y=float(place[1]), yaw=stance[1])
