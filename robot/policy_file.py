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
from robot.onnx_file import parse_model, read_bounded, short, weights_sha256
from robot.signing import SIGNATURE_KEY, check_signature

GOLDEN_TOLERANCE = 1e-5
"""Largest difference allowed between a golden value and the one computed here."""


class PolicyFile:
    """A loaded policy: `contract`, and `step` or `act`. P observation values, M of memory, J actions.

    It keeps no memory itself: who runs it does, so that one file can run several robots.
    """

    def __init__(self, path: Path | str, trusted: Path | None = None) -> None:
        """Read, check and try the policy.

        Args:
            path: The .onnx file.
            trusted: Folder of the public keys of known signers; None takes unsigned files too.

        Raises:
            ContractError: The file is missing, is no ONNX model of ours, is not signed by a known signer, its weights
                was changed, or it does not reproduce its golden vectors.
            InputError: The folder of known signers cannot be used.
        """
        self.path = Path(path)
        data = read_bounded(self.path)
        self.signer = check_signature(self.path, data, trusted)
        """Who signed: a known signer's name or the key's fingerprint; empty for an unsigned file."""
        self.size_bytes, self.sha256 = len(data), hashlib.sha256(data).hexdigest()
        model = parse_model(self.path, data)
        self.contract = _contract(self.path, model, signed=bool(self.signer))
        if weights_sha256(model) != self.contract.hashes.get("weights", ""):
            raise ContractError(f"{self.path}: its weights are not those of its contract; export the policy again")
        self._session = _session(self.path, data, self.contract)
        self._inputs = {"obs": np.zeros((1, self.contract.spec.size), dtype=np.float32)}
        self._outputs = ["action"]
        if self.contract.memory_size:
            self._inputs["memory"] = self.empty_memory()[None]
            self._outputs.append("next_memory")
        self.golden_max_abs_diff = self._check_golden()
        """Largest difference from the golden vectors."""

    def empty_memory(self) -> np.ndarray:
        """Return the memory (M,), float32, before the first step; M is 0 for a policy without one."""
        return np.zeros(self.contract.memory_size, dtype=np.float32)

    def step(self, obs: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the action (J,) and the next memory (M,), float32, of an observation (P,) and a memory (M,)."""
        self._inputs["obs"][0] = obs
        if not self.contract.memory_size:
            return np.asarray(self._session.run(self._outputs, self._inputs)[0])[0], memory
        self._inputs["memory"][0] = memory
        action, memory = self._session.run(self._outputs, self._inputs)
        return np.asarray(action)[0], np.asarray(memory)[0]

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the action (J,), float32, of an observation (P,).

        Raises:
            ContractError: The policy has a memory, which `step` takes.
        """
        if self.contract.memory_size:
            raise ContractError(f"{self.path}: has a memory of {self.contract.memory_size} values; give it to `step`")
        return self.step(obs, self.empty_memory())[0]

    def _check_golden(self) -> float:
        contract, memory, worst = self.contract, self.empty_memory(), 0.0
        for number, (obs, expected) in enumerate(zip(contract.golden_inputs, contract.golden_outputs, strict=True)):
            try:
                action, memory = self.step(np.asarray(obs, dtype=np.float32), memory)
            except Exception as error:  # onnxruntime's own classes: a model that loads may still not run
                raise ContractError(f"{self.path}: does not run ({short(error)}); export the policy again") from None
            for found, wanted in ((action, expected), (memory, contract.golden_memory[number] if memory.size else ())):
                difference = np.abs(found.astype(np.float64) - np.asarray(wanted, dtype=np.float64))
                finite = bool(np.isfinite(difference).all())
                worst = max(worst, float(difference.max(initial=0.0)) if finite else np.inf)
        if not worst <= GOLDEN_TOLERANCE:
            raise ContractError(
                f"{self.path}: differs from its golden vectors by {worst:.3g}, "
                f"at most {GOLDEN_TOLERANCE:g} is allowed; export the policy again"
            )
        return worst

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


class SideBySide:
    """Acts for N robots in one process, keeping the memory of each."""

    def __init__(self, policy: PolicyFile, count: int) -> None:
        """Start with empty memories."""
        self._policy = policy
        self._memory = np.tile(policy.empty_memory(), (count, 1))

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return the actions (N, J) of observations (N, P), one by one: the same bits whatever the number of robots."""
        taken = [self._policy.step(row, memory) for row, memory in zip(obs, self._memory, strict=True)]
        self._memory = np.stack([memory for _, memory in taken])
        return np.stack([action for action, _ in taken])


def _contract(path: Path, model: onnx.ModelProto, *, signed: bool) -> PolicyContract:
    keys = [entry.key for entry in model.metadata_props]
    if keys.count(SIGNATURE_KEY) != signed:
        raise ContractError(f"{path}: its signature is damaged or not at the file's end; sign the policy again")
    if keys.count(METADATA_KEY) != 1:
        raise ContractError(
            f"{path}: carries {keys.count(METADATA_KEY)} contracts, expected one; export it with `bodydouble export`"
        )
    try:
        return PolicyContract.from_json(model.metadata_props[keys.index(METADATA_KEY)].value)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def _session(path: Path, data: bytes, contract: PolicyContract) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # What fails is raised as well; and the bytes that were checked are read as what they were checked as.
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, one per kind of failure
        raise ContractError(f"{path}: onnxruntime refuses it ({short(error)}); export the policy again") from None
    inputs = {value.name: (value.type, list(value.shape)) for value in session.get_inputs()}
    outputs = {value.name: (value.type, list(value.shape)) for value in session.get_outputs()}
    kind, memory = "tensor(float)", contract.memory_size
    want_in = {"obs": (kind, [1, contract.spec.size])} | ({"memory": (kind, [1, memory])} if memory else {})
    want_out = {"action": (kind, [1, len(contract.joint_names)])}
    want_out |= {"next_memory": (kind, [1, memory])} if memory else {}
    if (inputs, outputs) != (want_in, want_out):
        raise ContractError(
            f"{path}: has inputs {inputs} and outputs {outputs}, its contract says {want_in} and {want_out}"
        )
    return session
