"""The loader refuses every policy file that is not exactly what was exported."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.contract import METADATA_KEY
from bodydouble.errors import ContractError
from robot.policy_file import PolicyFile, weights_sha256
from tests.robot.faults import FaultLog
from tests.robot.samples import JOINTS, linear_model, save_policy, toy_contract, toy_policy, with_contract


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


def test_two_contracts(policy_path: Path, tmp_path: Path) -> None:
    model = onnx.load(str(policy_path))
    model.metadata_props.add().CopyFrom(next(e for e in model.metadata_props if e.key == METADATA_KEY))
    onnx.save(model, str(tmp_path / "two.onnx"))
    refuse(tmp_path / "two.onnx", "duplicate keys in metadata_props")


def test_a_contract_that_is_no_json(tmp_path: Path) -> None:
    model = linear_model(10, 3)
    for text in ("", "{", "[1]", "null"):
        refuse(save_policy(tmp_path / "p.onnx", model, text), "contract is no JSON|no JSON object")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda c: c.pop("kp"), r"lacks fields \['kp'\]"),
        (lambda c: c.update(gain=[1]), r"unknown fields \['gain'\]"),
        (lambda c: c["joint_names"].pop(), "29 values for 28 joints"),
        (lambda c: c["joint_names"].append("tail"), "29 values for 30 joints"),
        (lambda c: c["golden_inputs"].pop(), "golden"),
        (lambda c: c["golden_inputs"][0].pop(), "golden vectors are"),
        (lambda c: c["hashes"].pop("weights"), "weights are not those of its contract"),
        (lambda c: c["observation"].pop(), "golden vectors are"),
    ],
    ids=["no kp", "gain", "joint less", "joint more", "golden less", "golden short", "no hash", "term less"],
)
def test_edited_contract(policy_path: Path, tmp_path: Path, edit: Callable[..., Any], match: str) -> None:
    refuse(edited(policy_path, tmp_path / "p.onnx", lambda contract: edit(contract) and None), match)


def test_a_whole_joint_less(tmp_path: Path) -> None:
    """A contract that agrees with itself but not with the network is refused by the network's shapes."""
    path = toy_policy(tmp_path / "toy.onnx")
    PolicyFile(path)

    def drop(contract: dict[str, Any]) -> None:
        fields = ("joint_names", "default_joint_pos", "kp", "kd", "effort_limit", "joint_lower", "joint_upper")
        for field in (*fields, "joint_velocity_limit", "action_scale"):
            contract[field].pop()
        for row in contract["golden_outputs"]:
            row.pop()

    refuse(edited(path, tmp_path / "less.onnx", drop), "has inputs .* and outputs .*, its contract says")


def test_joint_names_swapped_inside_the_file(tmp_path: Path, fault_log: FaultLog) -> None:
    """Gains and limits are checked by name on the robot, so a swap is found there and the file is named."""
    path = toy_policy(tmp_path / "toy.onnx", joint_names=("knee", "hip", "ankle"))
    with pytest.raises(
        ContractError, match=r"toy\.onnx: names its joints in another order than robot toy \(knee for hip"
    ):
        PolicyFile(path).check_robot("toy", JOINTS)
    fault_log.passed("onnx_swapped_joints", "refused by name before the robot is commanded")


def test_a_network_that_onnxruntime_cannot_make(tmp_path: Path) -> None:
    model = linear_model(10, 3)
    model.graph.node[0].domain, model.graph.node[0].op_type = "elsewhere", "Magic"
    model.opset_import.add().domain = "elsewhere"
    text = with_contract(linear_model(toy_contract().spec.size, 3), toy_contract()).to_json()
    contract = json.loads(text)
    contract["hashes"]["weights"] = weights_sha256(model)
    refuse(save_policy(tmp_path / "p.onnx", model, json.dumps(contract)), r"uses operator 'elsewhere\.Magic'")


def test_a_network_of_another_type(tmp_path: Path) -> None:
    model = linear_model(toy_contract().spec.size, 3)
    contract = with_contract(model, toy_contract())
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(float), tensor.name))
    contract.hashes["weights"] = weights_sha256(model)
    refuse(save_policy(tmp_path / "p.onnx", model, contract.to_json()), r"tensor\(double\)")


def test_a_network_that_answers_nan(tmp_path: Path) -> None:
    """NaN is compared as a difference, never as equal to anything."""
    contract = toy_contract()
    model = linear_model(contract.spec.size, 3)
    good = with_contract(model, contract)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, dtype=np.float32), "bias"))
    good.hashes["weights"] = weights_sha256(model)
    refuse(save_policy(tmp_path / "p.onnx", model, good.to_json()), "golden vectors by inf")


def test_a_flipped_bit_is_refused_or_changes_nothing(small: bytes, fault_log: FaultLog) -> None:
    """Whatever one byte becomes: a one-line ContractError, or a policy whose actions are those of its contract."""

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(small) - 1), st.integers(1, 255))
    def check(at: int, change: int) -> None:
        content = bytearray(small)
        content[at] ^= change
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.onnx"
            path.write_bytes(bytes(content))
            try:
                policy = PolicyFile(path)
            except ContractError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert policy.golden_max_abs_diff <= 1e-5

    check()
    fault_log.passed("onnx_flipped", "refused, or the actions are those of the contract")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A policy file of a few kilobytes."""
    return toy_policy(tmp_path_factory.mktemp("small") / "p.onnx").read_bytes()


def test_robot_with_other_joints(policy_file: PolicyFile) -> None:
    names = policy_file.contract.joint_names
    policy_file.check_robot("unitree_g1", names)
    with pytest.raises(ContractError, match="policy for robot unitree_g1, this robot is unitree_go1"):
        policy_file.check_robot("unitree_go1", names)
    with pytest.raises(ContractError, match=r"lacks joints .*tail.* and adds joints"):
        policy_file.check_robot("unitree_g1", (*names[:-1], "tail"))
    with pytest.raises(ContractError, match="another order"):
        policy_file.check_robot("unitree_g1", (names[1], names[0], *names[2:]))
