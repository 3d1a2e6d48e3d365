"""Policies with a memory: the loader tries them over a sequence, the runtime keeps it, a replay repeats every bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from bodydouble.contract import METADATA_KEY
from bodydouble.errors import ContractError
from robot.policy_file import PolicyFile, SideBySide
from robot.runtime import PolicyRuntime
from tests.robot.samples import JOINTS, known, toy_motion, toy_policy

TICK_NS = 20_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return toy_policy(tmp_path / "toy.onnx", memory_size=4)


def feed(runtime: PolicyRuntime, number: int) -> None:
    t_ns = number * TICK_NS
    runtime.on_joint_state(t_ns, JOINTS, np.array([0.1, 0.2, -0.1]), np.zeros(3))
    runtime.on_imu(t_ns, np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.1, 0.0, 0.0]))
    runtime.on_odom(t_ns, np.array([0.0, 0.0, 1.0]))


def edited(path: Path, out: Path, edit) -> Path:
    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = json.loads(entry.value)
            edit(contract)
            entry.value = json.dumps(contract)
    onnx.save(model, str(out))
    return out


def test_step_by_hand(path: Path) -> None:
    """next_memory = memory / 2 + obs @ weight, action = next_memory @ head."""
    policy = PolicyFile(path)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    obs, memory = np.linspace(-1, 1, policy.contract.spec.size, dtype=np.float32), policy.empty_memory()
    assert memory.shape == (4,) and not memory.any()
    for _ in range(3):
        expected = 0.5 * memory + obs @ weights["weight"]
        action, memory = policy.step(obs, memory)
        np.testing.assert_allclose(memory, expected, atol=1e-6)
        np.testing.assert_allclose(action, expected @ weights["head"], atol=1e-6)


def test_golden_vectors_are_a_sequence(path: Path, tmp_path: Path) -> None:
    """The second golden action needs the first one's memory; a memory that differs is found though no action does."""
    assert PolicyFile(path).golden_max_abs_diff <= 1e-5

    def swap(contract: dict) -> None:
        for name in ("golden_inputs", "golden_outputs", "golden_memory"):
            contract[name][0], contract[name][1] = contract[name][1], contract[name][0]

    with pytest.raises(ContractError, match="differs from its golden vectors"):
        PolicyFile(edited(path, tmp_path / "swapped.onnx", swap))
    with pytest.raises(ContractError, match=r"differs from its golden vectors by 0\.01"):
        PolicyFile(
            edited(
                path,
                tmp_path / "shifted.onnx",
                lambda c: c["golden_memory"][3].__setitem__(0, c["golden_memory"][3][0] + 0.01),
            )
        )


def test_a_contract_of_another_memory(path: Path, tmp_path: Path) -> None:
    def shrink(contract: dict) -> None:
        contract["memory_size"] = 3
        contract["golden_memory"] = [row[:3] for row in contract["golden_memory"]]

    with pytest.raises(ContractError, match=r"\[1, 4\].*its contract says .*\[1, 3\]"):
        PolicyFile(edited(path, tmp_path / "less.onnx", shrink))

    def forget(contract: dict) -> None:
        contract["memory_size"], contract["golden_memory"] = 0, []

    with pytest.raises(ContractError, match=r"'memory'.*its contract says"):
        PolicyFile(edited(path, tmp_path / "none.onnx", forget))


def test_act_needs_no_memory(path: Path) -> None:
    policy = PolicyFile(path)
    with pytest.raises(ContractError, match="has a memory of 4 values; give it to `step`"):
        policy.act(np.zeros(policy.contract.spec.size, dtype=np.float32))


def test_robots_side_by_side_have_their_own_memory(path: Path) -> None:
    policy = PolicyFile(path)
    rows = np.random.default_rng(0).standard_normal((3, 5, policy.contract.spec.size)).astype(np.float32)
    together = SideBySide(policy, 5)
    found = np.stack([together(row) for row in rows])
    for robot in range(5):
        alone = SideBySide(policy, 1)
        np.testing.assert_array_equal(np.stack([alone(row[robot : robot + 1])[0] for row in rows]), found[:, robot])


def test_the_runtime_keeps_it_and_begins_anew(path: Path) -> None:
    """Equal observations give other actions from step to step; after a stop or a hold the first one comes again."""
    runtime = PolicyRuntime(PolicyFile(path), toy_motion())
    policy = PolicyFile(path)
    actions, memory = [], policy.empty_memory()
    for number in range(4):
        runtime.rehearse()
        feed(runtime, number)
        runtime.rehearse()
        result = runtime.tick(number * TICK_NS)
        action, memory = policy.step(known(result.obs), memory)
        np.testing.assert_array_equal(known(result.action), action)
        actions.append(action)
    assert np.abs(actions[1] - actions[0]).max() > 1e-3
    for number, commands in ((4, ("estop",)), (5, ("resume",)), (6, ("hold",)), (7, ("engage",))):
        feed(runtime, number)
        for command in commands:
            runtime.ask(command)
        result = runtime.tick(number * TICK_NS)
        if commands[0] in ("resume", "engage"):
            fresh, _ = policy.step(known(result.obs), policy.empty_memory())
            np.testing.assert_array_equal(known(result.action), fresh)
