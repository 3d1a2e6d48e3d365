"""Configuration of the walking task: frozen dataclasses whose docstrings become the options' help."""

from __future__ import annotations

from dataclasses import dataclass, field

from bodydouble.randomisation import Integers, Normal, Randomisation, RandomisedTerm, Uniform


@dataclass(frozen=True)
class VelocityRewards:
    """Weights and widths of the rewards; the weight of a cost is positive. A kernel is exp(-error^2 / width^2)."""

    track_linear: float = 2.0
    """Weight of the horizontal velocity's kernel."""
    track_linear_width: float = 0.35
    """Width, m/s."""
    track_turn: float = 1.0
    """Weight of the yaw rate's kernel."""
    track_turn_width: float = 0.5
    """Width, rad/s."""
    upright: float = 1.0
    """Cost of the squared horizontal part of gravity's direction in the base."""
    bounce: float = 0.5
    """Cost of the squared vertical velocity, (m/s)^2."""
    wobble: float = 0.02
    """Cost of the squared roll and pitch rates, (rad/s)^2."""
    air_time: float = 2.0
    """Weight of a foot's time in the air beyond the least that counts, given as it lands."""
    air_time_least: float = 0.1
    """Time in the air from which on a step counts as a gain, s."""
    air_time_most: float = 0.4
    """Time in the air beyond which more is worth nothing, s."""
    foot_height: float = 0.25
    """Cost of a moving foot's squared distance from the height it should swing at, times its speed over 10 cm^2."""
    foot_height_m: float = 0.08
    """Height at which a foot should swing, m."""
    foot_slip: float = 0.1
    """Cost of the squared speed of feet on the floor, (m/s)^2."""
    joint_deviation: float = 0.1
    """Cost of the squared distance from the default pose, rad^2, of the joints that a step does not need."""
    stand_still: float = 0.25
    """Cost of the distance from the default pose, rad, while told to stand."""
    action_rate: float = 0.005
    """Cost of the squared change of the action."""
    joint_limit: float = 5.0
    """Cost of a radian beyond 95 % of a joint's range."""
    alive: float = 0.25
    """Worth of a second without a failure."""


@dataclass(frozen=True)
class VelocityCommands:
    """What velocities are asked for."""

    forward: tuple[float, float] = (-0.6, 1.0)
    """Forward velocity, m/s."""
    left: tuple[float, float] = (-0.4, 0.4)
    """Sideways velocity, m/s."""
    turn: tuple[float, float] = (-1.0, 1.0)
    """Yaw rate, rad/s."""
    interval_s: tuple[float, float] = (4.0, 8.0)
    """Time until the next command, s."""
    stand_share: float = 0.1
    """Share of the commands that ask to stand still."""


@dataclass(frozen=True)
class VelocityTerminations:
    """When an episode counts as failed."""

    tilt: float = 1.0
    """Angle of the base's vertical beyond this, rad."""
    height_share: float = 0.5
    """Base lower than this share of its default height."""


@dataclass(frozen=True)
class VelocityStarts:
    """How an episode starts: the default pose, disturbed."""

    joint_noise: float = 0.1
    """Amplitude of the joint positions' deviation, rad."""
    velocity_noise: float = 0.2
    """Amplitude of the base's velocities, m/s and rad/s."""


def walking_randomisation() -> Randomisation:
    """Return what a walking policy is trained to bear."""
    return Randomisation((
        RandomisedTerm("friction", "feet", Uniform(0.4, 1.2), "set", "simulation", each=False),
        RandomisedTerm("kp", "all", Uniform(0.85, 1.15), "scale", "simulation"),
        RandomisedTerm("kd", "all", Uniform(0.85, 1.15), "scale", "simulation"),
        RandomisedTerm("armature", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("mass", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("action_latency", "all", Integers(0, 3), "set", "episode", each=False),
        RandomisedTerm("push", "base", Uniform(-0.4, 0.4), "add", "interval", interval_s=Uniform(4.0, 8.0)),
        RandomisedTerm("sensor_noise", "gyro", Uniform(-0.2, 0.2), "add", "step"),
        RandomisedTerm("sensor_noise", "orientation", Normal(0.0, 0.02), "add", "step"),
        RandomisedTerm("sensor_noise", "joint_pos", Uniform(-0.01, 0.01), "add", "step"),
        RandomisedTerm("sensor_noise", "joint_vel", Uniform(-0.75, 0.75), "add", "step"),
        RandomisedTerm("sensor_bias", "joint_pos", Uniform(-0.01, 0.01), "add", "episode"),
    ))  # fmt: skip


@dataclass(frozen=True)
class VelocityConfig:
    """The walking task."""

    control_hz: float = 50.0
    """Rate of the policy, Hz."""
    episode_s: float = 16.0
    """Length of an episode, s."""
    rewards: VelocityRewards = field(default_factory=VelocityRewards)
    """Rewards."""
    commands: VelocityCommands = field(default_factory=VelocityCommands)
    """Commands."""
    terminations: VelocityTerminations = field(default_factory=VelocityTerminations)
    """Failures."""
    starts: VelocityStarts = field(default_factory=VelocityStarts)
    """Starts."""
    history: int = 1
    """Control steps of all that is sensed and done that the policy sees, the present one counted; net.encoder reads
    them."""
    randomise: bool = True
    """Whether simulation, sensors and pushes vary as `walking_randomisation` declares."""
