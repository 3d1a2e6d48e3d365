"""How a person's motion becomes a robot's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bodydouble.errors import InputError


@dataclass(frozen=True)
class RetargetConfig:
    """Settings of the retargeting."""

    fps: float = 50.0
    """Frames per second of the robot's motion: the control rate."""
    time_stretch: float = 1.0
    """How much slower than the person the robot moves: 1.25 takes a quarter longer."""
    cutoff_hz: float = 4.0
    """Cut-off of the zero-phase low-pass filter on the person's joints, Hz."""
    path_scale: float | None = None
    """Scale of the person's horizontal path; none takes the ratio of the leg lengths."""
    contact_source: Literal["motion", "kinematic"] = "motion"
    """Where foot contacts come from: the motion's contact probabilities, or height and speed of the ankles."""
    contact_threshold: float = 0.5
    """Contact probability above which a foot stands."""
    min_contact_s: float = 0.12
    """Contacts shorter than this are dropped, s."""
    min_swing_s: float = 0.2
    """Swings shorter than this are dropped, s."""
    min_clearance_m: float = 0.04
    """Height to which a swinging foot is lifted at least, m."""
    hold_s: float = 1.2
    """Time that the robot stands still at the start and at the end, s."""
    transition_s: float = 1.2
    """Time from the robot's default pose to the clip's first pose, and from its last one back, s."""
    support_margin_m: float = 0.015
    """How far the zero-moment point is kept inside the edge of the supporting feet, m."""
    balance: bool = True
    """Whether the centre of mass is moved so that the zero-moment point stays over the supporting feet."""
    iterations: int = 3
    """Steps of inverse kinematics per frame and pass."""
    velocity_fraction: float = 0.8
    """Share of the motors' speed limits that the motion may use."""

    def __post_init__(self) -> None:
        positive = (
            "fps",
            "time_stretch",
            "cutoff_hz",
            "min_contact_s",
            "min_swing_s",
            "velocity_fraction",
            "iterations",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"retargeting: {name} is {getattr(self, name)}, expected more than 0")
        if not self.cutoff_hz / self.time_stretch < 0.5 * self.fps:
            raise InputError(
                f"retargeting: cutoff_hz is {self.cutoff_hz}, expected less than half of {self.fps} frames/s"
            )
        if min(self.hold_s, self.transition_s) < 0.1:
            raise InputError("retargeting: hold_s and transition_s must be at least 0.1 s")
        if self.path_scale is not None and not 0.1 <= self.path_scale <= 10.0:
            raise InputError(f"retargeting: path_scale is {self.path_scale}, expected 0.1 to 10")
