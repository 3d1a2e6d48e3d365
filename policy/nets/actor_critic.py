"""ActorCritic: a Gaussian policy, with or without memory, and a value function, each with its own observation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from policy.nets.mlp import mlp
from policy.nets.normalizer import RunningNorm
from policy.nets.onnx_export import write_onnx
from policy.nets.recurrent import RecurrentActor
from policy.threads import one_thread


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the networks."""

    actor_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the policy."""
    critic_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the value function."""
    init_std: float = 0.5
    """Standard deviation of the actions at the start."""
    memory: int = 0
    """Size of the policy's memory (a GRU before the hidden layers); 0 makes it see the present alone."""


class Actor(nn.Module):
    """Normalised observation to mean action: what is exported and runs on the robot."""

    def __init__(self, obs_size: int, action_size: int, layers: tuple[int, ...]) -> None:
        """Build normaliser and network; a small last layer starts the policy at the reference."""
        super().__init__()
        self.norm = RunningNorm(obs_size)
        self.net = mlp((obs_size, *layers, action_size), last_gain=0.01)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P)."""
        return self.net(self.norm(obs))

    def as_onnx(self, path: Path) -> None:
        """Write the network, normaliser included, as ONNX with input "obs" (1, P) and output "action" (1, J)."""
        write_onnx(self, path, {"obs": self.norm.mean.shape[0]}, ("action",))


class ActorCritic(nn.Module):
    """The policy and its value function. P policy and C critic values, J actions, M of memory (0 without)."""

    def __init__(self, policy_size: int, critic_size: int, action_size: int, config: NetConfig) -> None:
        """Build both networks. The critic sees its own observation, also what no robot can measure, and no memory."""
        super().__init__()
        self.config = config
        with one_thread():
            self.actor = (
                RecurrentActor(policy_size, action_size, config.actor_layers, config.memory)
                if config.memory
                else Actor(policy_size, action_size, config.actor_layers)
            )
            self.log_std = nn.Parameter(torch.full((action_size,), math.log(config.init_std)))
            self.critic_norm = RunningNorm(critic_size)
            self.critic_net = mlp((critic_size, *config.critic_layers, 1), last_gain=1.0)

    def empty_memory(self, count: int) -> torch.Tensor:
        """Return the memory (count, M) at the start of episodes."""
        return torch.zeros(count, self.config.memory, device=self.log_std.device)

    def value(self, critic_obs: torch.Tensor) -> torch.Tensor:
        """Return values (B,) of critic observations (B, C)."""
        return self.critic_net(self.critic_norm(critic_obs)).squeeze(-1)

    def mean(self, obs: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean actions (B, J) and the next memory (B, M) for observations (B, P) and memory (B, M)."""
        return self.actor(obs, memory) if self.config.memory else (self.actor(obs), memory)

    def act(
        self, obs: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return sampled actions (B, J), their log-probabilities (B,), the mean actions and the next memory (B, M).

        On the CPU they are the same bits at any number of torch's threads.
        """
        with one_thread():
            mean, memory = self.mean(obs, memory)
            action = mean + torch.exp(self.log_std) * torch.randn_like(mean)
            return action, self.log_prob(action, mean), mean, memory

    def means(self, obs: torch.Tensor, memory: torch.Tensor, starts: torch.Tensor, steps: int) -> torch.Tensor:
        """Return the mean actions (T * B, J) of a minibatch, step after step.

        Args:
            obs: Observations (T * B, P): all B of the first step, then all of the second. Without memory, any rows.
            memory: Memory before each step (T * B, M); that before the first one counts.
            starts: Whether a step is the first of its episode (T * B,), bool.
            steps: Steps T.
        """
        if not isinstance(self.actor, RecurrentActor):
            return self.actor(obs)
        in_time = [tensor.unflatten(0, (steps, -1)) for tensor in (obs, memory, starts)]
        return self.actor.unroll(in_time[0], in_time[1][0], in_time[2]).flatten(0, 1)

    def log_prob(self, action: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities (B,) of actions under Gaussians of these means."""
        z = (action - mean) * torch.exp(-self.log_std)
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self) -> torch.Tensor:
        """Return the entropy of the action distribution."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()

    def update_norm(self, obs: torch.Tensor, critic_obs: torch.Tensor) -> None:
        """Take batches of observations (B, P) and (B, C) into the normalisers."""
        self.actor.norm.update(obs)
        self.critic_norm.update(critic_obs)


class MeanPolicy:
    """Acts by the mean action in B environments side by side, keeping their memory; for evaluation."""

    def __init__(self, net: ActorCritic) -> None:
        """Start with an empty memory."""
        self._net = net
        self._memory: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (B, J) for observations (B, P)."""
        memory = self._net.empty_memory(obs.shape[0]) if self._memory is None else self._memory
        action, self._memory = self._net.mean(obs, memory)
        return action
