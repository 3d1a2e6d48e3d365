"""Every way in which a policy file is refused, with the whole message: it is what an engineer reads at the robot."""

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
from robot.runtime import PolicyRuntime
from tests.robot.samples import JOINTS, toy_motion, toy_policy


def swap(names: list[str]) -> None:
    names[0], names[1] = names[1], names[0]


def edited(path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    model = onnx.load(str(path))
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    contract = json.loads(entry.value)
    edit(contract)
    entry.value = json.dumps(contract)
    onnx.save(model, str(path))
    return path


def message(action: Callable[[], object], path: Path) -> str:
    with pytest.raises(ContractError) as error:
        action()
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text[len(f"{path}: ") :]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda c: c.update(schema_version=2), "contract schema is version 2, this program reads 1"),
        (
            lambda c: c.pop("kp"),
            "contract lacks fields ['kp'] and has unknown fields []; export the policy again",
        ),
        (
            lambda c: c["joint_names"].__setitem__(1, "hip"),
            "contract names joint 'hip' twice; the joint names hold a duplicate",
        ),
        (lambda c: c["joint_names"].pop(), "contract default_joint_pos has 3 values for 2 joints"),
        (lambda c: c["joint_names"].append("tail"), "contract default_joint_pos has 3 values for 4 joints"),
        (lambda c: c.update(quaternion_order="xyzw"), "contract quaternion order is 'xyzw', expected 'wxyz'"),
        (
            lambda c: c.update(control_hz=60.0),
            "contract control step is 3.3333333333333335 physics steps, expected a whole number",
        ),
        (
            lambda c: c["default_joint_pos"].__setitem__(0, 1.5),
            "contract default of joint 'hip' is 1.5, outside [-1.0, 1.0]",
        ),
        (
            lambda c: c["golden_outputs"][2].__setitem__(0, c["golden_outputs"][2][0] + 0.5),
            "differs from its golden vectors by 0.5, at most 1e-05 is allowed; export the policy again",
        ),
        (
            lambda c: c["hashes"].update(weights="0" * 64),
            "its weights are not those of its contract; export the policy again",
        ),
    ],
    ids=["schema", "field", "duplicate", "missing", "extra", "quaternion", "rate", "default", "golden", "hash"],
)
def test_contract(tmp_path: Path, edit: Callable[[dict[str, Any]], object], expected: str) -> None:
    path = edited(toy_policy(tmp_path / "p.onnx"), edit)
    assert message(lambda: PolicyFile(path), path) == expected


@pytest.mark.parametrize("node", [False, True], ids=["weight", "operator"])
def test_network(tmp_path: Path, node: bool) -> None:
    """One weight in its last bit; or an operator that does otherwise what the golden vectors hardly show."""
    path = toy_policy(tmp_path / "p.onnx")
    model = onnx.load(str(path))
    if node:
        model.graph.node[0].attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, f=1.0000001)
    else:
        weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
        weight.flat[0] = np.nextafter(weight.flat[0], np.float32(2))
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
    onnx.save(model, str(path))
    assert message(lambda: PolicyFile(path), path) == (
        "its weights are not those of its contract; export the policy again"
    )


def test_another_robot(tmp_path: Path) -> None:
    """Joints swapped inside the file, a joint less or more on the robot, another robot, another rate."""
    path = toy_policy(tmp_path / "p.onnx")
    policy = PolicyFile(path)
    assert message(lambda: policy.check_robot("toy", (*JOINTS[:2], "tail")), path) == (
        "lacks joints ['tail'] and adds joints ['ankle']; export it for this robot"
    )
    assert message(lambda: policy.check_robot("other", JOINTS), path) == (
        "is a policy for robot toy, this robot is other"
    )
    assert message(lambda: PolicyRuntime(policy, toy_motion(fps=25.0)), path) == (
        "runs at 50.0 Hz, the reference is at 25.0; resample it"
    )
    swapped = PolicyFile(edited(path, lambda c: swap(c["joint_names"])))
    assert message(lambda: swapped.check_robot("toy", JOINTS), path) == (
        "names its joints in another order than robot toy (knee for hip); export the policy again"
    )
    assert message(lambda: PolicyRuntime(swapped, toy_motion()), path) == (
        "its joints are not the reference's; build the stage for its robot"
    )


def test_full_precision(tmp_path: Path) -> None:
    """A third, and the smallest step above one, go through the file unchanged."""
    exact = (1 / 3, float(np.nextafter(1.0, 2.0)), 1e-17)
    path = toy_policy(tmp_path / "p.onnx", default_joint_pos=(1e-17, 1 / 3, 0.1 + 0.2), kp=exact)
    contract = PolicyFile(path).contract
    assert contract.kp == exact and contract.default_joint_pos == (1e-17, 1 / 3, 0.30000000000000004)
