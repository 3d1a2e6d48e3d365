"""The tracking task's randomisation as the declaration that a policy's contract carries."""

from __future__ import annotations

from bodydouble.randomisation import Integers, Randomisation, RandomisedTerm, Uniform
from sim.tasks.tracking.config import RandomisationConfig


def declared(config: RandomisationConfig) -> Randomisation:
    """Return what a configuration randomises; a range of one value, or an amplitude of zero, is not in it."""
    terms: list[RandomisedTerm] = []
    if config.friction[0] != config.friction[1]:
        terms.append(RandomisedTerm("friction", "feet", Uniform(*config.friction), "set", "simulation", each=False))
    if config.gain_scale[0] != config.gain_scale[1]:
        terms += [
            RandomisedTerm("kp", "all", Uniform(*config.gain_scale), "scale", "simulation"),
            RandomisedTerm("kd", "all", Uniform(*config.gain_scale), "scale", "simulation"),
        ]
    if config.mass_scale[0] != config.mass_scale[1]:
        terms.append(RandomisedTerm("mass", "all", Uniform(*config.mass_scale), "scale", "simulation"))
    if config.delay_substeps != (0, 0):
        delay = Integers(*config.delay_substeps)
        terms.append(RandomisedTerm("action_latency", "all", delay, "set", "episode", each=False))
    if config.push_speed > 0:
        push, every = Uniform(-config.push_speed, config.push_speed), Uniform(*config.push_interval_s)
        terms.append(RandomisedTerm("push", "base", push, "add", "interval", interval_s=every))
    noise = {
        "gyro": config.gyro_noise,
        "orientation": config.orientation_noise,
        "joint_pos": config.joint_pos_noise,
        "joint_vel": config.joint_vel_noise,
        "odometry": config.odometry_noise,
    }
    bias = {"joint_pos": config.joint_bias, "odometry": config.odometry_bias}
    terms += [RandomisedTerm("sensor_noise", of, Uniform(-a, a), "add", "step") for of, a in noise.items() if a > 0]
    terms += [RandomisedTerm("sensor_bias", of, Uniform(-a, a), "add", "episode") for of, a in bias.items() if a > 0]
    return Randomisation(tuple(terms))
