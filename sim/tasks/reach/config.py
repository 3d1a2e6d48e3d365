"""Configuration of the arm tasks: frozen dataclasses whose docstrings become the options' help."""

from __future__ import annotations

from dataclasses import dataclass, field

from bodydouble.randomisation import Integers, Normal, Randomisation, RandomisedTerm, Uniform


@dataclass(frozen=True)
class ReachRewards:
    """Weights and widths of the rewards; the weight of a cost is positive. A kernel is exp(-error^2 / width^2)."""

    near: float = 1.0
    """Weight of coming closer: 1 - tanh(distance / near_width)."""
    near_width: float = 0.2
    """Width, m."""
    at: float = 2.0
    """Weight of being there: the kernel of the distance."""
    at_width: float = 0.05
    """Width, m."""
    turned: float = 1.5
    """Weight of turning towards the orientation: 1 - tanh(angle / turned_width)."""
    turned_width: float = 1.0
    """Width, rad."""
    aligned: float = 1.5
    """Weight of being turned so: the kernel of the angle."""
    aligned_width: float = 0.3
    """Width, rad."""
    action_rate: float = 0.02
    """Cost of the squared change of the action."""
    joint_speed: float = 0.01
    """Cost of the squared joint velocities, (rad/s)^2."""


@dataclass(frozen=True)
class PickRewards:
    """Weights and widths of the rewards; the weight of a cost is positive."""

    near: float = 1.0
    """Weight of the tool coming to the box: 1 - tanh(distance / near_width)."""
    near_width: float = 0.15
    """Width, m."""
    around: float = 1.0
    """Weight of the box between the fingers: the kernel of the distance."""
    around_width: float = 0.03
    """Width, m."""
    lifted: float = 6.0
    """Weight of the share of the asked height that the box was lifted, while the tool is at it."""
    at: float = 6.0
    """Weight of the kernel of the box's height error, once it is lifted."""
    at_width: float = 0.05
    """Width, m."""
    action_rate: float = 0.01
    """Cost of the squared change of the action."""
    joint_speed: float = 0.005
    """Cost of the squared joint velocities, (rad/s)^2."""


@dataclass(frozen=True)
class BoxConfig:
    """The box to pick."""

    half_size: tuple[float, float, float] = (0.015, 0.015, 0.025)
    """Half its edges, m."""
    mass: float = 0.06
    """Its mass, kg."""
    radius: float = 0.06
    """Largest difference of its distance from the arm's mount to that of the tool in the default pose, m."""
    angle: float = 0.4
    """Largest angle about the mount between it and the tool in the default pose, rad."""
    yaw: float = 0.2
    """Largest turn about its vertical, rad."""
    height: tuple[float, float] = (0.10, 0.25)
    """Height to which its centre is to be lifted, m."""


def arm_randomisation() -> Randomisation:
    """Return what an arm policy is trained to bear."""
    return Randomisation((
        RandomisedTerm("kp", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("kd", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("mass", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("armature", "all", Uniform(0.9, 1.1), "scale", "simulation"),
        RandomisedTerm("action_latency", "all", Integers(0, 3), "set", "episode", each=False),
        RandomisedTerm("observation_delay", "all", Integers(0, 1), "set", "episode", each=False),
        RandomisedTerm("sensor_noise", "joint_pos", Normal(0.0, 0.002), "add", "step"),
        RandomisedTerm("sensor_noise", "joint_vel", Normal(0.0, 0.05), "add", "step"),
        RandomisedTerm("sensor_bias", "joint_pos", Uniform(-0.002, 0.002), "add", "episode"),
    ))  # fmt: skip


@dataclass(frozen=True)
class ReachConfig:
    """The reaching task."""

    control_hz: float = 25.0
    """Rate of the policy, Hz."""
    episode_s: float = 4.0
    """Length of an episode, s; it has one target."""
    action_scale: float = 0.5
    """Joint offset that one unit of action means, rad."""
    reach_rad: float = 1.0
    """Largest joint offset from the default pose of the poses that targets are taken from, rad."""
    least_height: float = 0.05
    """Lowest target, m."""
    joint_noise: float = 0.3
    """Amplitude of the joint positions' deviation at the start, rad."""
    success_m: float = 0.03
    """Distance to the target below which it counts as reached, m."""
    success_rad: float = 0.35
    """Angle to the target below which it counts as reached, rad."""
    rewards: ReachRewards = field(default_factory=ReachRewards)
    """Rewards."""
    history: int = 1
    """Control steps of all that is sensed and done that the policy sees, the present one counted; net.encoder reads
    them."""
    randomise: bool = True
    """Whether simulations and sensors vary as `arm_randomisation` declares."""


@dataclass(frozen=True)
class PickConfig:
    """The picking task."""

    control_hz: float = 25.0
    """Rate of the policy, Hz."""
    episode_s: float = 5.0
    """Length of an episode, s; it has one box."""
    action_scale: float = 0.5
    """Joint offset that one unit of action means, rad; a gripper's is half its range."""
    joint_noise: float = 0.1
    """Amplitude of the joint positions' deviation at the start, rad."""
    success_m: float = 0.04
    """Height error of the lifted box below which it counts as picked, m."""
    box: BoxConfig = field(default_factory=BoxConfig)
    """The box."""
    rewards: PickRewards = field(default_factory=PickRewards)
    """Rewards."""
    history: int = 1
    """Control steps of all that is sensed and done that the policy sees, the present one counted; net.encoder reads
    them."""
    randomise: bool = True
    """Whether simulations and sensors vary as `arm_randomisation` declares."""
