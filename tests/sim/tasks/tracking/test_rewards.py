from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from bodydouble.frames import quat_mul, quat_rotate
from sim.tasks.tracking.config import RewardConfig
from sim.tasks.tracking.rewards import REWARDS, TrackingSample, total_reward
from tests.sim.tasks.tracking.samples import about, sample, shifted

C = RewardConfig()
KERNELS = ("root_pos", "root_rot", "body_pos", "body_rot", "joint_pos", "lin_vel", "ang_vel")


def value(name: str, s: TrackingSample) -> float:
    out = REWARDS[name](s, C)
    assert out.shape == (1,)
    return float(out[0])


def test_on_the_reference_every_kernel_is_one_and_every_cost_zero() -> None:
    for name in REWARDS:
        expected = 1.0 if name in KERNELS else 0.0
        # A standing foot's speed is the root of 1e-8 at least, so that it has a gradient.
        assert value(name, sample()) == pytest.approx(expected, abs=3e-4 if name == "foot_slip" else 1e-12), name


@pytest.mark.parametrize(
    ("name", "field", "by", "expected"),
    [
        # Kernels are exp(-error^2 / width^2): an error of one width gives exp(-1).
        ("root_pos", "root_pos", [0.3, 0.0, 0.0], math.exp(-1)),
        ("root_pos", "root_pos", [0.1, -0.2, 0.2], math.exp(-0.09 / 0.09)),
        ("lin_vel", "root_lin_vel", [0.0, 0.7, 0.0], math.exp(-1)),
        ("ang_vel", "root_ang_vel", [0.0, 0.0, -4.0], math.exp(-4)),
        # Mean over two joints of 0.5^2 and 0: 0.125 over 0.25^2 = 2.
        ("joint_pos", "joint_pos", [0.5, 0.0], math.exp(-2)),
        # Mean over two bodies of 0.15^2 and 0: half a width squared.
        ("body_pos", "body_pos", [[0.0, 0.15, 0.0], [0.0, 0.0, 0.0]], math.exp(-0.5)),
        # The base alone moves by 0.15: every body is that much off, as seen from the base.
        ("body_pos", "root_pos", [0.0, 0.0, 0.15], math.exp(-1)),
    ],
)  # fmt: skip
def test_kernels_by_hand(name: str, field: str, by: list, expected: float) -> None:
    assert value(name, shifted(sample(), field, by)) == pytest.approx(expected)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_kernels_by_hand(axis: str) -> None:
    # 0.4 rad is the base's width. One of two bodies at 1 rad: mean 0.5 over 0.5^2 = 2.
    assert value("root_rot", sample(root_quat=[about(axis, 0.4)])) == pytest.approx(math.exp(-1))
    assert value("root_rot", sample(root_quat=[-about(axis, 0.4)])) == pytest.approx(math.exp(-1)), "q and -q are one"
    turned = sample(body_quat=[[about(axis, 1.0), about(axis, 0.0)]])
    assert value("body_rot", turned) == pytest.approx(math.exp(-2))


def test_bodies_are_compared_in_the_robots_own_heading() -> None:
    """A robot that stands elsewhere and faces another way, in the same pose, has the full body reward."""
    s = sample()
    turn, away = about("z", 2.0), np.array([3.0, -1.0, 0.0])
    moved = dataclasses.replace(
        s,
        root_pos=quat_rotate(turn, s.root_pos) + away,
        root_quat=quat_mul(turn[None], s.root_quat),
        body_pos=quat_rotate(turn, s.body_pos) + away,
    )
    assert value("body_pos", moved) == pytest.approx(1.0)
    assert value("root_pos", moved) < 1e-6
    leaning = dataclasses.replace(s, root_quat=about("x", 0.4)[None])
    assert value("body_pos", leaning) == pytest.approx(1.0), "a lean is no heading"


def test_action_costs_by_hand() -> None:
    s = sample(action=[[1.0, 2.0]], last_action=[[0.5, 0.0]], second_last_action=[[-1.0, 1.0]])
    assert value("action_rate", s) == pytest.approx(-(0.25 + 4.0))
    # 1 - 2 * 0.5 - 1 = -1 and 2 - 0 + 1 = 3.
    assert value("action_jerk", s) == pytest.approx(-(1.0 + 9.0))


@pytest.mark.parametrize(
    ("joints", "expected"),
    [
        # Ranges [-1, 1] and [-2, 2]; 95 % of them: [-0.95, 0.95] and [-1.9, 1.9].
        ([0.95, -1.9], 0.0),
        ([1.0, 0.0], -0.05),
        ([-1.05, 2.0], -0.2),
        ([0.0, -2.0], -0.1),
    ],
)
def test_joint_limit_by_hand(joints: list[float], expected: float) -> None:
    assert value("joint_limit", sample(joint_pos=[joints])) == pytest.approx(expected)


def test_foot_slip_by_hand() -> None:
    velocity = [[[0.3, 0.4, 9.0], [5.0, 0.0, 0.0]]]
    # Planted feet cost their horizontal speed, 0.5, and at most 2; lifted ones nothing.
    assert value("foot_slip", sample(foot_vel=velocity)) == pytest.approx(-2.5, abs=1e-6)
    assert value("foot_slip", sample(foot_vel=velocity, ref_contact=[[1, 0]])) == pytest.approx(-0.5, abs=1e-6)
    assert value("foot_slip", sample(foot_vel=velocity, ref_contact=[[0, 0]])) == 0.0


def test_foot_height_by_hand() -> None:
    s = shifted(sample(), "foot_pos", [[0.5, 0.5, 0.05], [0.0, 0.0, -0.7]])
    assert value("foot_height", s) == pytest.approx(-(0.05 + 0.2)), "each foot counts 0.2 m at most"


def test_total_by_hand() -> None:
    """A second on the reference is worth the kernels' weights: 1 + 0.5 + 1.5 + 0.7 + 1 + 0.7 + 0.4 = 5.8."""
    lifted = sample(ref_contact=[[0, 0]])
    assert float(total_reward(lifted, C, 0.02)[0]) == pytest.approx(5.8 * 0.02)
    # Only the joint reward is left: 1.0 * exp(-2), and no cost.
    only = RewardConfig(**{name: 0.0 for name in REWARDS if name != "joint_pos"})
    off = shifted(lifted, "joint_pos", [0.5, 0.0])
    assert float(total_reward(off, only, 0.02)[0]) == pytest.approx(math.exp(-2) * 0.02)
    action = sample(ref_contact=[[0, 0]], action=[[1.0, 0.0]])
    # Rate and jerk are one each: -0.012 - 0.004.
    assert float(total_reward(action, C, 1.0)[0]) == pytest.approx(5.8 - 0.016)


def test_every_reward_has_a_weight_and_rows_do_not_mix() -> None:
    """Only the second of two robots leaves the reference: only it loses."""
    rng = np.random.default_rng(0)
    two = sample(2)
    for name, array in vars(two).items():
        if not name.startswith(("ref_", "joint_lower", "joint_upper")):
            array[1] += rng.uniform(0.05, 0.1, array[1].shape)
    for name, function in REWARDS.items():
        assert getattr(C, name) > 0
        both, alone = function(two, C), function(sample(), C)
        assert both.shape == (2,) and both[0] == alone[0], name
        assert name == "joint_limit" or both[1] < both[0], name


def test_torch_and_numpy_agree() -> None:
    rng = np.random.default_rng(0)
    s = sample(6)
    noisy = {name: array + rng.normal(0, 0.2, array.shape) for name, array in vars(s).items()}
    for name in ("root_quat", "ref_root_quat", "body_quat", "ref_body_quat"):
        noisy[name] /= np.linalg.norm(noisy[name], axis=-1, keepdims=True)
    tensors = TrackingSample(**{name: torch.as_tensor(array) for name, array in noisy.items()})
    expected = total_reward(TrackingSample(**noisy), C, 0.02)
    np.testing.assert_allclose(total_reward(tensors, C, 0.02).numpy(), expected, rtol=1e-9)
