"""A person's joints by their role (left_knee, ...), whatever the body model calls them, at the control rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import butter, sosfiltfilt

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from sim.retarget.config import RetargetConfig
from sim.retarget.footsteps import clean_contacts
from sim.retarget.scene import Scene

REQUIRED_ROLES = tuple(
    f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)
"""Joints without which nothing is retargeted."""
OPTIONAL_ROLES = ("left_toe", "right_toe", "spine")
"""Joints that say more: where feet point, how the pelvis leans."""

# Per role: names in this project's motions, Anny (MakeHuman bones start at the joint), BVH files, SMPL.
_ALIASES = {
    "hip": ("hip", "upperleg01.{s}", "{Side}UpLeg", "{Side}Hip", "{side}_thigh"),
    "knee": ("knee", "lowerleg01.{s}", "{Side}Leg", "{Side}Knee", "{side}_shin"),
    "ankle": ("ankle", "foot.{s}", "{Side}Foot", "{Side}Ankle", "{side}_foot"),
    "toe": ("toe", "toe1-1.{s}", "toe2-1.{s}", "{Side}ToeBase", "{Side}Toe", "{side}_big_toe"),
    "shoulder": ("shoulder", "upperarm01.{s}", "{Side}Arm", "{Side}Shoulder", "{side}_upper_arm"),
    "elbow": ("elbow", "lowerarm01.{s}", "{Side}ForeArm", "{Side}Elbow", "{side}_forearm"),
    "wrist": ("wrist", "wrist.{s}", "{Side}Hand", "{Side}Wrist", "{side}_hand"),
}
_HAND_REACH_M, _HAND_SPEED_M_S = 0.12, 0.25
"""A wrist nearer to a solid and slower than this belongs to a hand that holds on to it."""
_SPINE = ("spine", "spine03", "spine02", "Spine", "spine1", "spine_1", "Spine1")


@dataclass(frozen=True, eq=False)
class HumanTrack:
    """A person's joints by role, resampled and filtered. T frames at the control rate."""

    fps: float
    """Frames per second."""
    joints: dict[str, np.ndarray]
    """Positions (T, 3) by role, world, m."""
    contact: np.ndarray
    """Contact probabilities (T, 2) of the left and the right foot."""
    ground: np.ndarray
    """Heights of the surfaces below the feet (T, 2), m."""
    hand_contact: np.ndarray
    """Whether the left and the right hand hold on to the scene (T, 2), bool."""

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.contact)

    def leg_length(self) -> float:
        """Return the length of thigh plus shin, median over time, mean of both legs, m."""
        lengths = []
        for side in ("left", "right"):
            hip, knee, ankle = (self.joints[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle"))
            thigh, shin = np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)
            lengths.append(np.median(thigh) + np.median(shin))
        return float(np.mean(lengths))


def joint_roles(names: tuple[str, ...]) -> dict[str, int]:
    """Return the index of each role's joint among a body model's joint names.

    Raises:
        InputError: A required joint has none of the known names.
    """
    index = {name.lower(): i for i, name in reversed(list(enumerate(names)))}
    roles: dict[str, int] = {}
    for joint, patterns in _ALIASES.items():
        for side, Side, s in (("left", "Left", "l"), ("right", "Right", "r")):
            options = [f"{side}_{joint}", *(pattern.format(side=side, Side=Side, s=s) for pattern in patterns)]
            found = next((index[option.lower()] for option in options if option.lower() in index), None)
            if found is not None:
                roles[f"{side}_{joint}"] = found
    spine = next((index[name.lower()] for name in _SPINE if name.lower() in index), None)
    if spine is not None:
        roles["spine"] = spine
    missing = [role for role in REQUIRED_ROLES if role not in roles]
    if missing:
        raise InputError(
            f"human motion: no joint is known as {missing[0]}; expected a name such as "
            f"{missing[0]!r} among the joints {', '.join(names[:8])}, ..."
        )
    return roles


def track_human(human: HumanMotion, config: RetargetConfig, scene: Scene | None = None) -> HumanTrack:
    """Return a person's joints by role at the control rate, low-pass filtered.

    Args:
        human: The person's motion.
        config: Settings.
        scene: What stands on the floor, as the person saw it; None for nothing.

    Raises:
        InputError: The motion is shorter than half a second, lacks a joint, or has no contact channels for the feet.
    """
    times = (human.times_ns - human.times_ns[0]) * 1e-9 * config.time_stretch if human.num_frames else np.zeros(0)
    if len(times) < 8 or times[-1] < 0.5:
        raise InputError(f"human motion: has {human.num_frames} frames, expected at least half a second")
    wanted = np.arange(int(np.floor(times[-1] * config.fps + 1e-9)) + 1) / config.fps
    roles = joint_roles(human.joint_names)
    positions = CubicSpline(times, human.joint_pos[:, list(roles.values())])(wanted)
    positions = low_pass(positions, config.fps, config.cutoff_hz / config.time_stretch)
    joints = {role: positions[:, i] for i, role in enumerate(roles)}
    ground = np.stack([_ground(joints, side, scene) for side in ("left", "right")], axis=1)
    if config.contact_source == "kinematic":
        contact = _kinematic_contact(joints, ground, config)
    else:
        contact = _stored_contact(human, times, wanted)
    return HumanTrack(config.fps, joints, contact, ground, _hand_contact(joints, scene, config))


def _ground(joints: dict[str, np.ndarray], side: str, scene: Scene | None) -> np.ndarray:
    """Return the height (T,) in m of the highest surface below a foot's ankle, middle and toe."""
    ankle = joints[f"{side}_ankle"]
    if scene is None:
        return np.zeros(len(ankle))
    toe = joints.get(f"{side}_toe", ankle)
    return np.max([scene.height(ankle + share * (toe - ankle)) for share in (0.0, 0.5, 1.0)], axis=0)


def _hand_contact(joints: dict[str, np.ndarray], scene: Scene | None, config: RetargetConfig) -> np.ndarray:
    """Return whether each hand (T, 2) is near a solid of the scene, slow, for long enough."""
    frames = len(joints["left_wrist"])
    if scene is None or not scene.solids:
        return np.zeros((frames, 2), dtype=bool)
    columns = []
    for side in ("left", "right"):
        wrist = joints[f"{side}_wrist"]
        speed = np.linalg.norm(np.gradient(wrist, 1.0 / config.fps, axis=0), axis=1)
        holds = (scene.distance(wrist) < _HAND_REACH_M) & (speed < _HAND_SPEED_M_S)
        columns.append(clean_contacts(holds, round(2 * config.min_contact_s * config.fps), 3))
    return np.stack(columns, axis=1)


def low_pass(values: np.ndarray, fps: float, cutoff_hz: float) -> np.ndarray:
    """Return samples (T, ...) through a zero-phase second-order Butterworth filter."""
    sos = butter(2, cutoff_hz, fs=fps, output="sos")
    return sosfiltfilt(sos, values, axis=0, padtype="odd", padlen=min(len(values) - 1, int(fps)))


def _stored_contact(human: HumanMotion, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    columns = []
    for name in ("left_foot", "right_foot"):
        if name not in human.contact_names:
            raise InputError(f"human motion: has no contact {name!r}; set contact_source to kinematic")
        columns.append(np.interp(wanted, times, human.contact[:, human.contact_names.index(name)]))
    contact = np.stack(columns, axis=1)
    if contact.max() < 0.5:
        raise InputError("human motion: no foot ever touches the floor in it; set contact_source to kinematic")
    return contact


def _kinematic_contact(joints: dict[str, np.ndarray], ground: np.ndarray, config: RetargetConfig) -> np.ndarray:
    columns = []
    for i, side in enumerate(("left", "right")):
        ankle = joints[f"{side}_ankle"]
        height = ankle[:, 2] - ground[:, i]
        height = height - np.quantile(height, 0.05)
        speed = np.linalg.norm(np.gradient(ankle, 1.0 / config.fps, axis=0), axis=1)
        columns.append(((height < 0.06) & (speed < 0.45)).astype(np.float64))
    return np.stack(columns, axis=1)
