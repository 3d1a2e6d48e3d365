"""PolicyFile: an ONNX policy with its contract, refused on any mismatch, run with one thread of onnxruntime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from bodydouble.contract import METADATA_KEY, PolicyContract
from bodydouble.errors import ContractError

MAX_POLICY_BYTES = 512 << 20
"""Largest policy file that is read."""
GOLDEN_TOLERANCE = 1e-5
"""Largest difference allowed between a golden action and the one computed here."""


def weights_sha256(model: onnx.ModelProto) -> str:
    """Return one hash over the graph's initialisers: name, type, shape and raw bytes of each, by name."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        array = onnx.numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class PolicyFile:
    """A loaded policy: `contract` and `act`."""

    def __init__(self, path: Path | str) -> None:
        """Read, check and try the policy.

        Args:
            path: The .onnx file.

        Raises:
            ContractError: The file is missing, is no ONNX model of ours, its weights were changed, or it does not
                reproduce its golden vectors.
        """
        self.path = Path(path)
        data = _read(self.path)
        model = _parse(self.path, data)
        self.contract = _contract(self.path, model)
        expected = self.contract.hashes.get("weights", "")
        if weights_sha256(model) != expected:
            raise ContractError(f"{self.path}: its weights are not those of its contract; export the policy again")
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = _session(self.path, data, self.contract)
        self._input = np.zeros((1, self.contract.spec.size), dtype=np.float32)
        self._check_golden()

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the action (J,), float32, of an observation (P,)."""
        self._input[0] = obs
        return np.asarray(self._session.run(["action"], {"obs": self._input})[0])[0]

    def _check_golden(self) -> None:
        worst = 0.0
        for obs, action in zip(self.contract.golden_inputs, self.contract.golden_outputs, strict=True):
            try:
                found = self.act(np.asarray(obs, dtype=np.float32))
            except Exception as error:  # onnxruntime's own classes: a model that loads may still not run
                raise ContractError(f"{self.path}: does not run ({_short(error)}); export the policy again") from None
            difference = np.abs(found.astype(np.float64) - np.asarray(action))
            worst = max(worst, float(difference.max()) if np.isfinite(difference).all() else np.inf)
        self.golden_max_abs_diff = worst
        if not worst <= GOLDEN_TOLERANCE:
            raise ContractError(
                f"{self.path}: differs from its golden vectors by {worst:.3g}, "
                f"at most {GOLDEN_TOLERANCE:g} is allowed; export the policy again"
            )

    def check_robot(self, name: str, joint_names: tuple[str, ...]) -> None:
        """Compare the contract with a robot.

        Args:
            name: Name of the robot.
            joint_names: Its joints, in order.

        Raises:
            ContractError: The policy is for another robot, or lacks, adds or swaps joints.
        """
        have, want = self.contract.joint_names, tuple(joint_names)
        if self.contract.robot != name:
            raise ContractError(f"{self.path}: is a policy for robot {self.contract.robot}, this robot is {name}")
        missing, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
        if missing or extra:
            raise ContractError(
                f"{self.path}: lacks joints {missing} and adds joints {extra}; export it for this robot"
            )
        swapped = [f"{a} for {b}" for a, b in zip(have, want, strict=True) if a != b]
        if swapped:
            raise ContractError(
                f"{self.path}: names its joints in another order than robot {name} ({swapped[0]}); "
                "export the policy again"
            )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_POLICY_BYTES:
            raise ContractError(f"{path}: {size} bytes, the limit is {MAX_POLICY_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror}); make it with `bodydouble export`") from None


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:
        raise ContractError(f"{path}: is no ONNX model ({_short(error)}); export the policy again") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ContractError(f"{path}: keeps weights in other files; export the policy again")
    return model


def _contract(path: Path, model: onnx.ModelProto) -> PolicyContract:
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if len(texts) != 1:
        raise ContractError(f"{path}: carries {len(texts)} contracts, expected one; export it with `bodydouble export`")
    try:
        return PolicyContract.from_json(texts[0])
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def _session(path: Path, data: bytes, contract: PolicyContract) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, one per kind of failure
        raise ContractError(f"{path}: onnxruntime refuses it ({_short(error)}); export the policy again") from None
    inputs = [(value.name, value.type, list(value.shape)) for value in session.get_inputs()]
    outputs = [(value.name, value.type, list(value.shape)) for value in session.get_outputs()]
    kind, sizes = "tensor(float)", (contract.spec.size, len(contract.joint_names))
    expected = [("obs", kind, [1, sizes[0]])], [("action", kind, [1, sizes[1]])]
    if (inputs, outputs) != expected:
        raise ContractError(f"{path}: has inputs {inputs} and outputs {outputs}, its contract says {expected}")
    return session


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
