"""The training loop that every learner shares: make an update, log it, tell who watches."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from policy.optim.registry import AnyOptimizer
from policy.rl.ranks import Ranks


@dataclass(frozen=True)
class Progress:
    """State of a training after an update; a resumed one counts on."""

    update: int
    """Updates made in this training."""
    env_steps: int
    """Environment steps made in this training."""
    seconds: float
    """Time spent training, s."""
    stats: dict[str, float]
    """Mean reward, failures, losses, learning rate, speed."""


class LearnerConfig(Protocol):
    """What every learner's settings name."""

    @property
    def optimizer(self) -> AnyOptimizer:
        """The optimizer."""
        ...


class Learner(Protocol):
    """What learns: a network, its optimizer, and what else a resumed training needs."""

    lr: float
    """Learning rate now."""
    optimizer: torch.optim.Optimizer
    """The optimizer of all that is learned."""

    @property
    def net(self) -> Any:
        """The network: a `policy.nets.policy_net.PolicyNet`."""
        ...

    @property
    def config(self) -> LearnerConfig:
        """The settings."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what is neither in the network nor in the optimizer, for JSON."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        ...


class Training(ABC):
    """A learner in a task, update by update."""

    device: torch.device
    update: int
    env_steps: int
    seconds: float

    @property
    @abstractmethod
    def learner(self) -> Learner:
        """What learns."""

    @property
    def ranks(self) -> Ranks:
        """The processes that train together; this one alone where the learner knows no others."""
        return Ranks()

    @property
    @abstractmethod
    def steps_per_update(self) -> int:
        """Environment steps of an update."""

    @abstractmethod
    def begin(self) -> None:
        """Do what comes before the first update of a training, or before going on with one."""

    @abstractmethod
    def advance(self, dump: Path | None) -> dict[str, float]:
        """Make one update and return its figures.

        Args:
            dump: File that receives what was learned from, and the network, when the losses diverge.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return all that the next update depends on beside network and optimizer, as tensors by name."""

    @abstractmethod
    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the training goes on exactly."""

    def train(
        self,
        should_stop: Callable[[Progress], bool],
        on_update: Callable[[Progress], None],
        log: Path | None = None,
        dump: Path | None = None,
    ) -> Progress:
        """Train until told to stop.

        Args:
            should_stop: Called after each update.
            on_update: Called after each update: progress bar, checkpoints.
            log: JSON-lines file that gets one line per update.
            dump: File that receives rollout and network (safetensors) when the losses diverge.

        Raises:
            TrainingError: The losses diverged; the message names the file.
            PhysicsError: The simulation diverged.
        """
        begun = time.monotonic() - self.seconds
        self.begin()
        file = open(log, "a", buffering=1) if log is not None else None  # noqa: SIM115 - closed below
        try:
            while True:
                started = time.monotonic()
                stats = self.advance(dump)
                self.update += 1
                self.env_steps += self.steps_per_update
                now = time.monotonic()
                self.seconds = now - begun
                stats["env_steps_per_s"] = self.steps_per_update / (now - started)
                progress = Progress(self.update, self.env_steps, self.seconds, stats)
                if file is not None:
                    counts = {"update": self.update, "env_steps": self.env_steps, "seconds": round(self.seconds, 3)}
                    line = {**counts, **stats}
                    file.write(json.dumps({key: _short(value) for key, value in line.items()}) + "\n")
                on_update(progress)
                if should_stop(progress):
                    return progress
        finally:
            if file is not None:
                file.close()


def _short(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value
