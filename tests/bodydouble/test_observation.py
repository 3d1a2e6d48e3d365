import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import ContractError
from bodydouble.observation import (
    TERM_FUNCTIONS,
    ObservationBuilder,
    ObservationSpec,
    ObservationTerm,
    ReferenceWindow,
    RobotState,
    tracking_spec,
)

JOINTS, OFFSETS = 5, (1, 4)


def random_inputs(seed: int, envs: int = 3, joints: int = JOINTS, offsets: int = len(OFFSETS)):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def quat(*shape):
        value = normal(*shape, 4)
        return value / np.linalg.norm(value, axis=-1, keepdims=True)

    n, j, h = envs, joints, offsets
    state = RobotState(normal(n, 3), quat(n), normal(n, 3), normal(n, 3), normal(n, j), normal(n, j))
    ref = ReferenceWindow(
        normal(n, h, 3), quat(n, h), normal(n, h, 3), normal(n, h, 3), normal(n, h, j), normal(n, h, j)
    )
    return state, ref, normal(n, j), normal(j)


def to_torch(data):
    return type(data)(**{f.name: torch.from_numpy(getattr(data, f.name)) for f in dataclasses.fields(data)})


@given(st.integers(0, 2**32 - 1))
def test_numpy_and_torch_build_the_same_vector(seed):
    state, ref, action, default = random_inputs(seed)
    spec = tracking_spec(JOINTS, OFFSETS)
    mine = ObservationBuilder(spec, default).frame(state, ref, action)
    theirs = ObservationBuilder(spec, torch.from_numpy(default)).frame(
        to_torch(state), to_torch(ref), torch.from_numpy(action)
    )
    assert mine.dtype == np.float32 and theirs.dtype == torch.float32
    assert mine.shape == (3, spec.size)
    np.testing.assert_allclose(mine, theirs.numpy(), atol=5e-6)


@given(st.integers(0, 2**32 - 1))
def test_one_environment_is_a_row_of_the_batch(seed):
    """The robot (N = 1) computes bit for bit what the batch computes for that environment."""
    state, ref, action, default = random_inputs(seed)
    builder = ObservationBuilder(tracking_spec(JOINTS, OFFSETS), default)
    batch = builder.frame(state, ref, action)

    def row(data):
        return type(data)(**{f.name: getattr(data, f.name)[1:2] for f in dataclasses.fields(data)})

    np.testing.assert_array_equal(builder.frame(row(state), row(ref), action[1:2]), batch[1:2])


def upright(root_pos=(0.0, 0.0, 0.0), quat=(1.0, 0.0, 0.0, 0.0)):
    one = lambda *v: np.array([v], np.float32)  # noqa: E731
    return RobotState(one(*root_pos), one(*quat), one(0, 0, 0), one(0, 0, 0), one(0.1, 0.2), one(0, 0))


def reference(root_pos, joint_pos=(0.0, 0.0)):
    one = lambda *v: np.array([[v]], np.float32)  # noqa: E731
    return ReferenceWindow(one(*root_pos), one(1, 0, 0, 0), one(0, 0, 0), one(0, 0, 0), one(*joint_pos), one(0, 0))


def term(name, size, scale=1.0, clip=10.0, history=1):
    return ObservationSpec((ObservationTerm(name, size, scale, clip, history, "none"),))


def test_gravity_points_down_when_upright_and_forward_when_bowed():
    builder = ObservationBuilder(term("projected_gravity", 3), np.zeros(2, np.float32))
    flat = builder.frame(upright(), reference((0, 0, 0)), np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(flat, [[0, 0, -1]], atol=1e-7)
    half = np.sqrt(0.5)
    bowed = builder.frame(upright(quat=(half, 0, half, 0)), reference((0, 0, 0)), np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(bowed, [[1, 0, 0]], atol=1e-6)


def test_reference_ahead_is_ahead_in_the_robots_heading():
    builder = ObservationBuilder(term("ref_root_pos", 3), np.zeros(2, np.float32))
    half = np.sqrt(0.5)
    facing_y = upright(root_pos=(1, 1, 0), quat=(half, 0, 0, half))
    obs = builder.frame(facing_y, reference((1, 3, 0.5)), np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(obs, [[2, 0, 0.5]], atol=1e-6)


def test_scale_then_clip():
    builder = ObservationBuilder(term("joint_pos", 2, scale=10.0, clip=1.5), np.zeros(2, np.float32))
    obs = builder.frame(upright(), reference((0, 0, 0)), np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(obs, [[1.0, 1.5]], rtol=1e-6)


def test_history_keeps_the_oldest_first():
    builder = ObservationBuilder(term("joint_pos", 2, history=3), np.zeros(2, np.float32))
    frames = [np.full((1, 2), value, np.float32) for value in (1, 2, 3)]
    history = builder.start_history(frames[0])
    for frame in frames:
        history, obs = builder.push(history, frame)
    np.testing.assert_array_equal(obs, [[1, 1, 2, 2, 3, 3]])


def test_wrong_size_and_unknown_term_are_named():
    with pytest.raises(ContractError, match="'altitude' is unknown"):
        ObservationBuilder(term("altitude", 1), np.zeros(2, np.float32))
    builder = ObservationBuilder(term("joint_pos", 7), np.zeros(2, np.float32))
    with pytest.raises(ContractError, match="'joint_pos' has 2 values, the spec says 7"):
        builder.frame(upright(), reference((0, 0, 0)), np.zeros((1, 2), np.float32))


def test_every_term_but_the_command_is_used_by_the_tracking_policy():
    assert {t.name for t in tracking_spec(JOINTS, OFFSETS).terms} | {"command"} == set(TERM_FUNCTIONS)


def test_a_command_is_a_term_and_a_missing_one_is_refused():
    state, _, action, default = random_inputs(0)
    spec = ObservationSpec((
        ObservationTerm("command", 2, 2.0, 1.0, 1, "base"),
        ObservationTerm("joint_pos", JOINTS, 1.0, 10.0, 1, "joint"),
    ))  # fmt: skip
    builder = ObservationBuilder(spec, default)
    command = np.tile(np.float32([0.25, -3.0]), (3, 1))
    frame = builder.frame(state, None, action, command)
    np.testing.assert_array_equal(frame[:, :2], np.tile(np.float32([0.5, -1.0]), (3, 1)))
    with pytest.raises(ContractError, match="'command' reads"):
        builder.frame(state, None, action)
    with pytest.raises(ContractError, match="'ref_joint_pos' reads"):
        ObservationBuilder(tracking_spec(JOINTS), default).frame(state, None, action)
