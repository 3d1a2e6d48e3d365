"""A robot of three joints, its contract, a tiny policy and reference: small enough to check by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bodydouble.contract import METADATA_KEY, PolicyContract, exact_floats
from bodydouble.motion import RobotMotion
from bodydouble.observation import TRACKING_OFFSETS, tracking_spec
from robot.policy_file import weights_sha256

JOINTS = ("hip", "knee", "ankle")


def toy_contract(**changes) -> PolicyContract:
    """At 50 Hz a target moves by 0.1 rad a tick at most, and lies within 0.75 rad of the measured position."""
    values: dict[str, Any] = {
        "robot": "toy",
        "joint_names": JOINTS,
        "default_joint_pos": (0.0, 0.25, -0.25),
        "kp": (10.0, 10.0, 10.0),
        "kd": (1.0, 1.0, 1.0),
        "effort_limit": (5.0, 5.0, 5.0),
        "joint_lower": (-1.0, -1.0, -1.0),
        "joint_upper": (1.0, 2.0, 1.0),
        "joint_velocity_limit": (5.0, 5.0, 5.0),
        "action_mode": "residual_reference",
        "action_scale": (0.5, 0.5, 0.5),
        "observation": tracking_spec(len(JOINTS)).terms,
        "reference_offsets": TRACKING_OFFSETS,
        "control_hz": 50.0,
        "physics_dt": 0.005,
        "quaternion_order": "wxyz",
        "versions": {"bodydouble": "0"},
        "hashes": {"weights": ""},
        "golden_inputs": ((0.0,) * tracking_spec(len(JOINTS)).size,),
        "golden_outputs": ((0.0,) * len(JOINTS),),
    }
    return PolicyContract(**{**values, **changes})


def known(array: np.ndarray | None) -> np.ndarray:
    """Return an array that must be there."""
    assert array is not None
    return array


def linear_model(size: int, joints: int, seed: int = 0, gain: float = 0.02, bias: float = 0.0) -> onnx.ModelProto:
    """Return the model action = obs @ weight + bias, with small random weights."""
    weight = gain * np.random.default_rng(seed).standard_normal((size, joints))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["obs", "weight", "bias"], ["action"])],
        "policy",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, joints])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(np.full(joints, bias, dtype=np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recurrent_model(size: int, memory: int, joints: int, seed: int = 0) -> onnx.ModelProto:
    """Return the model next_memory = memory / 2 + obs @ weight, action = next_memory @ head, with small weights."""
    rng = np.random.default_rng(seed)
    arrays = {
        "half": np.full((), 0.5),
        "weight": 0.02 * rng.standard_normal((size, memory)),
        "head": 0.2 * rng.standard_normal((memory, joints)),
    }
    row = [("obs", size), ("memory", memory), ("action", joints), ("next_memory", memory)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name, width in row]
    nodes = [
        helper.make_node("Mul", ["memory", "half"], ["kept"]),
        helper.make_node("MatMul", ["obs", "weight"], ["seen"]),
        helper.make_node("Add", ["kept", "seen"], ["next_memory"]),
        helper.make_node("MatMul", ["next_memory", "head"], ["action"]),
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "policy", values[:2], values[2:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def infer(model: onnx.ModelProto, rows: np.ndarray, memory_size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions (G, J) and memories (G, M) of observations (G, P) that follow each other."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    memory, actions, memories = np.zeros((1, memory_size), dtype=np.float32), [], []
    for row in rows:
        if memory_size:
            action, memory = map(
                np.asarray, session.run(["action", "next_memory"], {"obs": row[None], "memory": memory})
            )
        else:
            action = np.asarray(session.run(["action"], {"obs": row[None]})[0])
        actions.append(action[0])
        memories.append(memory[0])
    return np.stack(actions), np.stack(memories)


def with_contract(model: onnx.ModelProto, contract: PolicyContract) -> PolicyContract:
    """Return the contract with the hash of the model's weights and four of its golden vectors."""
    rows = np.random.default_rng(1).standard_normal((4, contract.spec.size)).astype(np.float32)
    actions, memories = infer(model, rows, contract.memory_size)
    return dataclasses.replace(
        contract,
        hashes=contract.hashes | {"weights": weights_sha256(model)},
        golden_inputs=tuple(exact_floats(row) for row in rows),
        golden_outputs=tuple(exact_floats(row) for row in actions),
        golden_memory=tuple(exact_floats(row) for row in memories) if contract.memory_size else (),
    )


def save_policy(path: Path, model: onnx.ModelProto, text: str) -> Path:
    """Write a model with a text in the contract's place."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, text
    path.write_bytes(model.SerializeToString())
    return path


def toy_policy(path: Path, gain: float = 0.02, bias: float = 0.0, **changes) -> Path:
    """Write a policy of the toy robot, right in every respect."""
    contract = toy_contract(**changes)
    size, memory, joints = contract.spec.size, contract.memory_size, len(contract.joint_names)
    model = recurrent_model(size, memory, joints) if memory else linear_model(size, joints, gain=gain, bias=bias)
    return save_policy(path, model, with_contract(model, contract).to_json())


def toy_motion(frames: int = 40, fps: float = 50.0, joint_names: tuple[str, ...] = JOINTS) -> RobotMotion:
    """Return a walk along x: frames 0 to 3 stand, then 1 m/s until frame 5 before the end, which stands again.

    Both feet are planted in every fourth frame of the walk too. Hip, knee and ankle are 0.01, 0.02 and 0.03 rad times
    the number of frames walked.
    """
    walked = np.clip(np.arange(frames) - 4, 0, frames - 10).astype(float)
    moving = np.diff(walked, append=walked[-1]) > 0
    count = len(joint_names)
    both = ~moving | (np.arange(frames) % 4 == 0)
    return RobotMotion(
        fps=fps,
        joint_names=joint_names,
        root_pos=np.stack([walked / fps, np.zeros(frames), np.ones(frames)], axis=1),
        root_quat=np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1)),
        joint_pos=walked[:, None] * 0.01 * np.arange(1, count + 1),
        root_lin_vel=np.where(moving[:, None], [1.0, 0.0, 0.0], 0.0),
        root_ang_vel=np.zeros((frames, 3)),
        joint_vel=np.where(moving[:, None], fps * 0.01 * np.arange(1, count + 1), 0.0),
        body_names=("pelvis",),
        body_pos=np.zeros((frames, 1, 3)),
        body_quat=np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1, 1)),
        contact_names=("left_foot", "right_foot", "left_hand"),
        contact=np.stack([both, np.ones(frames, dtype=bool), np.zeros(frames, dtype=bool)], axis=1),
    )
