"""Configuration of the tracking task: frozen dataclasses whose docstrings become the options' help."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RewardConfig:
    """Weights and widths of the rewards. A kernel is exp(-error^2 / width^2)."""

    root_pos: float = 1.0
    """Weight of the base position."""
    root_pos_width: float = 0.3
    """Width, m."""
    root_rot: float = 0.5
    """Weight of the base orientation."""
    root_rot_width: float = 0.4
    """Width, rad."""
    body_pos: float = 1.5
    """Weight of the tracked bodies' positions relative to the base."""
    body_pos_width: float = 0.15
    """Width, m."""
    body_rot: float = 0.7
    """Weight of the tracked bodies' orientations."""
    body_rot_width: float = 0.5
    """Width, rad."""
    joint_pos: float = 1.0
    """Weight of the joint positions."""
    joint_pos_width: float = 0.25
    """Width of the root-mean-square joint error, rad."""
    lin_vel: float = 0.7
    """Weight of the base's linear velocity."""
    lin_vel_width: float = 0.7
    """Width, m/s."""
    ang_vel: float = 0.4
    """Weight of the base's angular velocity."""
    ang_vel_width: float = 2.0
    """Width, rad/s."""
    action_rate: float = 0.012
    """Cost of the squared change of the action."""
    action_jerk: float = 0.004
    """Cost of the squared second difference of the action."""
    joint_limit: float = 5.0
    """Cost of a radian beyond 95 % of a joint's range."""
    foot_slip: float = 0.4
    """Cost of a planted foot's speed, per m/s."""
    foot_height: float = 4.0
    """Cost of a foot's height error, per m."""


@dataclass(frozen=True)
class TerminationConfig:
    """When an episode counts as failed."""

    root_pos: float = 0.6
    """Base farther than this from the reference, m."""
    root_height: float = 0.25
    """Base higher or lower than the reference by more than this, m."""
    tilt: float = 0.9
    """Angle between the base's and the reference's vertical beyond this, rad."""
    foot_height: float = 0.25
    """A foot higher or lower than the reference by more than this, m."""


@dataclass(frozen=True)
class RandomisationConfig:
    """Declared distributions of what differs between simulation and robot; ranges are uniform."""

    friction: tuple[float, float] = (0.4, 1.2)
    """Sliding friction of the feet."""
    gain_scale: tuple[float, float] = (0.85, 1.15)
    """Factor on kp and kd of each joint."""
    mass_scale: tuple[float, float] = (0.9, 1.1)
    """Factor on each body's mass and inertia."""
    delay_substeps: tuple[int, int] = (0, 4)
    """Delay of the command, physics steps, both ends included."""
    push_speed: float = 0.5
    """Largest horizontal velocity added by a push, m/s."""
    push_interval_s: tuple[float, float] = (3.0, 6.0)
    """Time between pushes, s."""
    gyro_noise: float = 0.2
    """Amplitude of the gyro's noise, rad/s."""
    orientation_noise: float = 0.02
    """Amplitude of the orientation's noise, rad."""
    joint_pos_noise: float = 0.01
    """Amplitude of the joint encoders' noise, rad."""
    joint_vel_noise: float = 0.5
    """Amplitude of the joint velocities' noise, rad/s."""
    joint_bias: float = 0.01
    """Largest constant offset of a joint encoder, rad."""
    odometry_noise: float = 0.01
    """Amplitude of the odometry's noise, m."""
    odometry_bias: float = 0.03
    """Largest offset of the odometry in an episode, m."""

    @classmethod
    def none(cls) -> RandomisationConfig:
        """Return a configuration without any randomisation, noise or push."""
        return cls(
            friction=(0.6, 0.6),
            gain_scale=(1.0, 1.0),
            mass_scale=(1.0, 1.0),
            delay_substeps=(0, 0),
            push_speed=0.0,
            gyro_noise=0.0,
            orientation_noise=0.0,
            joint_pos_noise=0.0,
            joint_vel_noise=0.0,
            joint_bias=0.0,
            odometry_noise=0.0,
            odometry_bias=0.0,
        )


@dataclass(frozen=True)
class ResetConfig:
    """How an episode starts."""

    start_share: float = 0.2
    """Share of episodes that start at a clip's first frame; the others start anywhere."""
    hold_s: tuple[float, float] = (0.0, 2.0)
    """Time the first frame is held before the clip plays, s; only for episodes that start there."""
    joint_noise: float = 0.05
    """Amplitude of the joint positions' deviation, rad."""
    root_noise: float = 0.03
    """Amplitude of the base's horizontal deviation, m."""
    rot_noise: float = 0.05
    """Amplitude of the base's rotation, rad."""
    vel_noise: float = 0.2
    """Amplitude of the base's velocity deviation, m/s and rad/s."""
    adaptive_share: float = 0.5
    """Share of the sampling that follows the failures; the rest is uniform over the clips' time."""
    adaptive_rate: float = 0.002
    """Rate at which the failure statistics forget."""

    @classmethod
    def exact(cls) -> ResetConfig:
        """Return a start at the clips' first frame, without deviation."""
        return cls(
            start_share=1.0, hold_s=(0.0, 0.0), joint_noise=0, root_noise=0, rot_noise=0, vel_noise=0, adaptive_share=0
        )


@dataclass(frozen=True)
class TrackingConfig:
    """The tracking task."""

    control_hz: float = 50.0
    """Rate of the policy, Hz."""
    episode_s: float = 10.0
    """Longest episode, s; a longer one is truncated, not failed."""
    end_hold_s: float = 1.0
    """Time a clip's last frame is held before the episode is truncated, s."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """Rewards."""
    termination: TerminationConfig = field(default_factory=TerminationConfig)
    """Failures."""
    randomisation: RandomisationConfig = field(default_factory=RandomisationConfig)
    """Randomisation."""
    reset: ResetConfig = field(default_factory=ResetConfig)
    """Starts."""
