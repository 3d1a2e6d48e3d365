"""What every policy is to training, evaluation and export: an actor that becomes ONNX, and what it learns with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from policy.nets.normalizer import Moments, RunningNorm
from policy.nets.onnx_export import write_onnx

Layout = tuple[tuple[int, int], ...]
"""Size and history of each term of an observation, in its order; a term's frames follow each other, oldest first."""


class PolicyActor(nn.Module):
    """Observation to action, with its normaliser inside: what is exported and runs on the robot."""

    norm: RunningNorm
    """Normaliser of the observation."""

    def as_onnx(self, path: Path) -> None:
        """Write the network, normaliser included, as ONNX with input "obs" (1, P) and output "action" (1, J)."""
        write_onnx(self, path, {"obs": self.norm.mean.shape[0]}, ("action",))


class PolicyNet(nn.Module):
    """A policy and the values that it learns with. P policy and C critic values, J actions, M of memory (0 without)."""

    config: Any
    """Its sizes: a dataclass with `memory`, the size M."""
    actor: Any
    """The policy, a PolicyActor."""
    critic_norm: RunningNorm
    """Normaliser of the critic's observation."""
    layout: Layout = ()
    """Terms of the observation, where the actor reads their history."""

    def empty_memory(self, count: int) -> torch.Tensor:
        """Return the memory (count, M) at the start of episodes."""
        return torch.zeros(count, self.config.memory, device=self.critic_norm.mean.device)

    def mean(self, obs: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions (B, J) and the next memory (B, M) for observations (B, P) and memory (B, M)."""
        return self.actor(obs, memory) if self.config.memory else (self.actor(obs), memory)

    def normalise(self, obs: torch.Tensor, critic_obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return observations (B, P) and (B, C) as the normalisers have them now."""
        return self.actor.norm(obs), self.critic_norm(critic_obs)

    def update_norm(self, obs: torch.Tensor, critic_obs: torch.Tensor, ranks: Moments | None = None) -> None:
        """Take batches of observations (B, P) and (B, C) into the normalisers, those of all ranks where given."""
        self.actor.norm.update(obs, ranks)
        self.critic_norm.update(critic_obs, ranks)


class MeanPolicy:
    """Acts by the mean action in B environments side by side, keeping their memory; for evaluation."""

    def __init__(self, net: PolicyNet) -> None:
        """Start with an empty memory."""
        self._net = net
        self._memory: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (B, J) for observations (B, P)."""
        memory = self._net.empty_memory(obs.shape[0]) if self._memory is None else self._memory
        action, self._memory = self._net.mean(obs, memory)
        return action
