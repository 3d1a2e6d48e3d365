"""RecurrentActor: a policy with a memory, which comes in and goes out explicitly, in training as in ONNX."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from policy.nets.mlp import mlp
from policy.nets.normalizer import RunningNorm
from policy.nets.onnx_export import write_onnx
from policy.nets.policy_net import PolicyActor


class RecurrentActor(PolicyActor):
    """Normalised observation and GRU memory to mean action and next memory. P values, M of memory, J actions."""

    def __init__(self, obs_size: int, action_size: int, layers: tuple[int, ...], memory: int) -> None:
        """Build normaliser, cell and network; the network sees the observation beside the memory."""
        super().__init__()
        self.norm = RunningNorm(obs_size)
        self.cell = nn.GRUCell(obs_size, memory)
        self.net = mlp((obs_size + memory, *layers, action_size), last_gain=0.01)

    def forward(self, obs: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions (B, J) and the next memory (B, M) for observations (B, P) and memory (B, M)."""
        x = self.norm(obs)
        memory = self.cell(x, memory)
        return self.net(torch.cat([x, memory], dim=-1)), memory

    def unroll(
        self, obs: torch.Tensor, memory: torch.Tensor, starts: torch.Tensor, *, normalised: bool = False
    ) -> torch.Tensor:
        """Return the mean actions (T, B, J) over T steps, with gradient through the memory.

        Args:
            obs: Observations (T, B, P).
            memory: Memory before the first step (B, M).
            starts: Whether a step is the first of its episode (T, B), bool; the memory is then empty.
            normalised: Whether the observations are already normalised.
        """
        x = obs if normalised else self.norm(obs)
        memories = []
        for t in range(x.shape[0]):
            memory = self.cell(x[t], memory * (~starts[t])[:, None])
            memories.append(memory)
        return self.net(torch.cat([x, torch.stack(memories)], dim=-1))

    def as_onnx(self, path: Path) -> None:
        """Write inputs "obs" (1, P), "memory" (1, M) and outputs "action" (1, J), "next_memory" (1, M) as ONNX.

        Who runs it begins an episode with zeros and hands each step's "next_memory" to the next one.
        """
        example = {"obs": self.norm.mean.shape[0], "memory": self.cell.hidden_size}
        write_onnx(self, path, example, ("action", "next_memory"))
