"""The tracking task's randomisation as a declaration."""

from __future__ import annotations

from bodydouble.randomisation import Randomisation, Uniform
from sim.tasks.tracking.config import RandomisationConfig
from sim.tasks.tracking.declared import declared


def test_the_default_randomisation_is_declared_whole():
    config = RandomisationConfig()
    terms = declared(config)
    assert {(t.quantity, t.of) for t in terms.terms} == {
        ("friction", "feet"), ("kp", "all"), ("kd", "all"), ("mass", "all"), ("action_latency", "all"),
        ("push", "base"), ("sensor_noise", "gyro"), ("sensor_noise", "orientation"), ("sensor_noise", "joint_pos"),
        ("sensor_noise", "joint_vel"), ("sensor_noise", "odometry"), ("sensor_bias", "joint_pos"),
        ("sensor_bias", "odometry"),
    }  # fmt: skip
    friction, push = terms.term("friction", "feet"), terms.term("push", "base")
    assert friction is not None and friction.distribution == Uniform(0.4, 1.2) and not friction.each
    assert push is not None and push.interval_s == Uniform(3.0, 6.0)
    assert Randomisation.from_json(terms.to_json()) == terms


def test_nothing_randomised_declares_nothing():
    assert declared(RandomisationConfig.none()) == Randomisation()
