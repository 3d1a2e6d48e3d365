"""The optimizers a training or a fit can choose from: `config.build(parameters)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch


class OptimizerConfig(Protocol):
    """A configuration that builds a torch optimizer."""

    lr: float
    """Learning rate."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        ...


@dataclass(frozen=True)
class AdamConfig:
    """Adam."""

    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return Adam over the parameters."""
        return torch.optim.Adam(list(params), lr=self.lr, betas=self.betas)


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW: Adam with decoupled weight decay."""

    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""
    weight_decay: float = 1e-2
    """Decay of the weights per step, in units of the learning rate."""

    def build(self, params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return AdamW over the parameters."""
        return torch.optim.AdamW(list(params), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)
