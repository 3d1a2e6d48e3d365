"""RunningNorm: the observation normaliser, a module, so that no checkpoint or export can lose it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


class Moments(Protocol):
    """The processes that train together; policy.rl.ranks.Ranks is one."""

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Return mean (size,), variance (size,) and number of the rows (B, size) of all processes."""
        ...


class RunningNorm(nn.Module):
    """Normalises by the running mean and variance of what it was shown (Chan et al. 1983, parallel update)."""

    def __init__(self, size: int, epsilon: float = 1e-2, clip: float = 10.0) -> None:
        """Start at mean 0 and variance 1.

        Args:
            size: Number of values.
            epsilon: Added to the standard deviation; keeps constant inputs from blowing up.
            clip: Bound on the normalised values.
        """
        super().__init__()
        self.mean: torch.Tensor
        self.var: torch.Tensor
        self.count: torch.Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self._epsilon, self._clip = epsilon, clip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised values (..., size)."""
        normal = (x - self.mean) / (torch.sqrt(self.var) + self._epsilon)
        return torch.clamp(normal, -self._clip, self._clip)

    @torch.no_grad()
    def update(self, x: torch.Tensor, ranks: Moments | None = None) -> None:
        """Take a batch (B, size) into the statistics: that of this process, or those of all that train together."""
        mean, var, count = ranks.moments(x) if ranks else (x.mean(dim=0), x.var(dim=0, unbiased=False), float(len(x)))
        total = self.count + count
        delta = mean - self.mean
        share = (count / total).to(x.dtype)
        old = (self.count / total).to(x.dtype)
        self.var.copy_(old * self.var + share * var + old * share * delta**2)
        self.mean.add_(delta * share)
        self.count.copy_(total)
