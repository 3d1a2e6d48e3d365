"""The loader refuses every policy file that is not exactly what was exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bodydouble.contract import METADATA_KEY
from bodydouble.errors import ContractError
from robot.policy_file import PolicyFile


def edited(policy: Path, out: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Write the policy with an edited contract."""
    model = onnx.load(str(policy))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = json.loads(entry.value)
            edit(contract)
            entry.value = json.dumps(contract)
    onnx.save(model, str(out))
    return out


def refuse(path: Path, match: str) -> None:
    with pytest.raises(ContractError, match=match) as error:
        PolicyFile(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_reproduces_its_golden_vectors(policy_file: PolicyFile) -> None:
    assert policy_file.golden_max_abs_diff <= 1e-5
    obs = np.asarray(policy_file.contract.golden_inputs[3], dtype=np.float32)
    np.testing.assert_allclose(policy_file.act(obs), policy_file.contract.golden_outputs[3], atol=1e-5)


def test_changed_weights(policy_path: Path, tmp_path: Path) -> None:
    model = onnx.load(str(policy_path))
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1e-6
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "changed.onnx"))
    refuse(tmp_path / "changed.onnx", "weights are not those of its contract")


def test_golden_vectors_that_do_not_reproduce(policy_path: Path, tmp_path: Path) -> None:
    def shift(contract: dict[str, Any]) -> None:
        contract["golden_outputs"][0][0] += 0.01

    refuse(edited(policy_path, tmp_path / "p.onnx", shift), r"golden vectors by 0\.01")


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schema_version", 99, "schema"),
        ("quaternion_order", "xyzw", "quaternion order"),
        ("control_hz", 47.3, "whole number"),
        ("action_mode", "torque", "action mode"),
        ("kp", [1.0], "kp"),
    ],
)
def test_contract_that_does_not_hold(policy_path: Path, tmp_path: Path, field: str, value: Any, match: str) -> None:
    refuse(edited(policy_path, tmp_path / "p.onnx", lambda contract: contract.update({field: value})), match)


def test_default_pose_outside_the_limits(policy_path: Path, tmp_path: Path) -> None:
    def move(contract: dict[str, Any]) -> None:
        contract["default_joint_pos"][0] = contract["joint_upper"][0] + 0.1

    refuse(edited(policy_path, tmp_path / "p.onnx", move), "default of joint")


def test_duplicate_joint(policy_path: Path, tmp_path: Path) -> None:
    def double(contract: dict[str, Any]) -> None:
        contract["joint_names"][1] = contract["joint_names"][0]

    refuse(edited(policy_path, tmp_path / "p.onnx", double), "duplicate")


def test_no_contract(policy_path: Path, tmp_path: Path) -> None:
    model = onnx.load(str(policy_path))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "none.onnx"))
    refuse(tmp_path / "none.onnx", "carries 0 contracts")


def test_files_that_are_no_policy(policy_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    refuse(tmp_path / "text.onnx", "is no ONNX model")
    (tmp_path / "cut.onnx").write_bytes(policy_path.read_bytes()[:5000])
    refuse(tmp_path / "cut.onnx", "is no ONNX model")
    refuse(tmp_path / "missing.onnx", "cannot be read")


def test_robot_with_other_joints(policy_file: PolicyFile) -> None:
    names = policy_file.contract.joint_names
    policy_file.check_robot("unitree_g1", names)
    with pytest.raises(ContractError, match="policy for robot unitree_g1, this robot is unitree_go1"):
        policy_file.check_robot("unitree_go1", names)
    with pytest.raises(ContractError, match=r"lacks joints .*tail.* and adds joints"):
        policy_file.check_robot("unitree_g1", (*names[:-1], "tail"))
    with pytest.raises(ContractError, match="another order"):
        policy_file.check_robot("unitree_g1", (names[1], names[0], *names[2:]))
