"""Rollout: the preallocated storage of T steps of N environments."""

from __future__ import annotations

import torch


class Rollout:
    """T steps of N environments, on the learner's device, with what the policy that acted knew of itself."""

    def __init__(
        self,
        steps: int,
        envs: int,
        sizes: dict[str, int],
        action_size: int,
        device: torch.device,
        memory_size: int = 0,
        critics: int = 1,
    ) -> None:
        """Allocate.

        Args:
            steps: Steps T.
            envs: Environments N.
            sizes: Size of each observation group: "policy" and "critic".
            action_size: Number of actions J.
            device: Where to keep everything.
            memory_size: Size of the policy's memory M.
            critics: Value functions G, each of a reward of its own.
        """

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(steps, envs, *shape, dtype=dtype, device=device)

        self.obs = {name: zeros(size) for name, size in sizes.items()}
        self.reached = zeros(sizes["critic"])
        """The critic's observation that each step led to, before any new episode."""
        self.action, self.mean = zeros(action_size), zeros(action_size)
        self.log_prob, self.reward = zeros(), zeros()
        groups = (critics,) if critics > 1 else ()
        self.rewards = zeros(*groups) if groups else zeros(0)
        """Rewards of the groups (T, N, G), whose sum is `reward`; (T, N, 0) where there is one value function."""
        self.value, self.next_value = zeros(*groups), zeros(*groups)
        """Values (T, N), or (T, N, G) of several value functions."""
        self.terminated, self.truncated = zeros(dtype=torch.bool), zeros(dtype=torch.bool)
        self.starts = zeros(dtype=torch.bool)
        """Whether a step is the first of its episode."""
        self.version = zeros(dtype=torch.int64)
        """Gradient steps that the acting policy had behind it: `log_prob` is that policy's."""
        self.memory = zeros(memory_size)
        """The policy's memory before each step, as the step before left it: not yet emptied where an episode starts."""
        self.group: torch.Tensor | None = None
        """Group of each environment (N,), for group advantages; None where the task names none."""
        self.steps, self.envs = steps, envs

    def take(self, other: Rollout, columns: slice) -> None:
        """Copy what another rollout of as many steps holds, its values apart, into some of the environments."""
        theirs = other.named()
        for name, tensor in self.named().items():
            if name not in ("value", "next_value", "group"):
                tensor[:, columns].copy_(theirs[name])

    def share(self) -> None:
        """Move every tensor to memory that other processes can see."""
        for tensor in self.named().values():
            tensor.share_memory_()

    def named(self) -> dict[str, torch.Tensor]:
        """Return every tensor (T, N, ...) by name."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return plain | {f"obs.{name}": tensor for name, tensor in self.obs.items()}

    def flat(self) -> dict[str, torch.Tensor]:
        """Return views whose first dimension is T * N: observations and all that tells how the policy acted."""
        named = {
            **self.obs, "action": self.action, "mean": self.mean, "log_prob": self.log_prob, "value": self.value,
            "version": self.version, "memory": self.memory, "starts": self.starts,
        }  # fmt: skip
        return {name: tensor.flatten(0, 1) for name, tensor in named.items()}
