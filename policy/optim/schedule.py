"""Schedules of the learning rate: pure functions of the step, so that nothing needs saving for a resumed training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from bodydouble.errors import InputError


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes over a training."""

    kind: Literal["constant", "linear", "cosine"] = "constant"
    """Course after the warm-up: it stays, or falls in a line or a half cosine to `final`."""
    warmup: int = 0
    """Steps of the linear rise from 0."""
    total: int = 0
    """Step at which `final` is reached; it stays there. A constant schedule does not need it."""
    final: float = 0.0
    """Share of the learning rate at the end."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: They make no schedule.
        """
        if self.warmup < 0 or not 0.0 <= self.final <= 1.0:
            raise InputError(f"schedule: warmup {self.warmup} and final {self.final}, expected >= 0 and 0 to 1")
        if self.kind != "constant" and self.total <= self.warmup:
            raise InputError(
                f"schedule: a {self.kind} schedule needs total > warmup, they are {self.total} and {self.warmup}"
            )

    def factor(self, step: int) -> float:
        """Return the share of the learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "constant":
            return 1.0
        done = min(1.0, (step - self.warmup) / (self.total - self.warmup))
        left = 1.0 - done if self.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.final + (1.0 - self.final) * left


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups; a group's "lr_ratio" (1 where it has none) scales its own."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)
