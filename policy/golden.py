"""What a policy does step by step, in torch and onnxruntime: how far they differ, and a contract's golden vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch

from bodydouble.contract import exact_floats
from policy.nets.policy_net import PolicyNet

GOLDEN_STEPS = 16
"""Golden vectors of a contract."""


@dataclass(frozen=True)
class Steps:
    """T steps of a policy for B robots, from empty memories on. P observation values, J actions, M of memory."""

    obs: np.ndarray
    """Observations (T, B, P), float32."""
    action: np.ndarray
    """Actions (T, B, J), float32."""
    memory: np.ndarray
    """Memories after each step (T, B, M), float32; M is 0 for a policy without one."""

    def max_abs_diff(self, other: Steps) -> float:
        """Return the largest difference of any action or memory from another's; NaN where one is NaN."""
        differences = [np.abs(self.action - other.action), np.abs(self.memory - other.memory)]
        return float(np.max([difference.max(initial=0.0) for difference in differences]))

    def contract_fields(self) -> dict[str, Any]:
        """Return a contract's memory size and golden vectors.

        They are spread over all steps; with a memory they are the first steps of the first robot, one after another.
        """
        memory_size = self.memory.shape[-1]
        if memory_size:
            rows = [array[:GOLDEN_STEPS, 0] for array in (self.obs, self.action, self.memory)]
        else:
            flat = [np.concatenate(array) for array in (self.obs, self.action, self.memory)]
            chosen = np.linspace(0, len(flat[0]) - 1, GOLDEN_STEPS).astype(int)
            rows = [array[chosen] for array in flat]
        inputs, outputs, memories = (tuple(exact_floats(row) for row in array) for array in rows)
        return {
            "memory_size": memory_size,
            "golden_inputs": inputs,
            "golden_outputs": outputs,
            "golden_memory": memories if memory_size else (),
        }


@torch.no_grad()
def torch_steps(net: PolicyNet, obs: np.ndarray) -> Steps:
    """Return what a network does for observations (T, B, P), row by row as on a robot."""
    memory = [net.empty_memory(1)] * obs.shape[1]
    actions, memories = [], []
    for rows in obs:
        taken = [net.mean(torch.as_tensor(row[None]), own) for row, own in zip(rows, memory, strict=True)]
        memory = [after for _, after in taken]
        actions.append(np.concatenate([action.numpy() for action, _ in taken]))
        memories.append(np.concatenate([after.numpy() for after in memory]))
    return Steps(obs, np.stack(actions), np.stack(memories))


def onnx_steps(model: bytes, obs: np.ndarray, memory_size: int) -> Steps:
    """Return what onnxruntime makes of a model for observations (T, B, P), row by row as on a robot."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def step(row: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not memory_size:
            return np.asarray(session.run(["action"], {"obs": row[None]})[0])[0], memory
        action, after = session.run(["action", "next_memory"], {"obs": row[None], "memory": memory[None]})
        return np.asarray(action)[0], np.asarray(after)[0]

    memory = [np.zeros(memory_size, dtype=np.float32)] * obs.shape[1]
    actions, memories = [], []
    for rows in obs:
        taken = [step(row, own) for row, own in zip(rows, memory, strict=True)]
        memory = [after for _, after in taken]
        actions.append(np.stack([action for action, _ in taken]))
        memories.append(np.stack(memory))
    return Steps(obs, np.stack(actions), np.stack(memories))
