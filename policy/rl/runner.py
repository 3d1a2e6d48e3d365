"""The training loop: collect a rollout, learn from it, log, save."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bodydouble.artifacts import atomic_file
from bodydouble.errors import TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.rl.bootstrap import value_rollout
from policy.rl.collect import Collector, VectorTask
from policy.rl.ppo import PPO


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


class Runner:
    """Trains a network in a vector task: collects, then learns, in turn."""

    def __init__(self, task: VectorTask, ppo: PPO, device: torch.device) -> None:
        """Reset the task and allocate the rollout."""
        self.ppo, self.device = ppo, device
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        self._collector = Collector(task, ppo.net, device)
        self._rollout = self._collector.make_rollout(ppo.config.steps)

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
        if float(self.ppo.net.actor.norm.count) == 0:
            self._first_look()
        file = open(log, "a", buffering=1) if log is not None else None  # noqa: SIM115 - closed below
        try:
            while True:
                started = time.monotonic()
                collected = self.collect()
                stats = {**collected, **self._learn(dump)}
                self._update_norm()
                self.update += 1
                self.env_steps += self._rollout.steps * self._rollout.envs
                now = time.monotonic()
                self.seconds = now - begun
                stats["env_steps_per_s"] = self._rollout.steps * self._rollout.envs / (now - started)
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

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return all that the next update depends on beside network and optimizer, as tensors by name.

        Without entries of the task where that cannot say its state: a training resumed from it begins new episodes.
        """
        tensors = self._collector.snapshot() | {"rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the task goes on too, or begins new episodes.

        Raises:
            InputError: The tensors are of another task.
        """
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        return self._collector.restore(tensors)

    def _learn(self, dump: Path | None) -> dict[str, float]:
        try:
            return self.ppo.update(self._rollout)
        except TrainingError as error:
            if dump is None:
                raise
            tensors = {f"rollout.{name}": t.contiguous() for name, t in self._rollout.named().items()}
            tensors |= {f"net.{name}": t.contiguous() for name, t in self.ppo.net.state_dict().items()}
            with atomic_file(dump) as temporary:
                save_file(tensors, str(temporary))
            raise TrainingError(f"{error}; rollout and network are in {dump}") from None

    def collect(self) -> dict[str, float]:
        """Fill the rollout with the present policy and return mean reward, failure rate and body error."""
        stats = self._collector.collect(self.ppo.net, self._rollout, self.ppo.version)
        value_rollout(self.ppo.net, self._rollout)
        return stats

    def _first_look(self) -> None:
        """Look at the task, so that the first update does not learn from raw observations."""
        self.collect()
        self._update_norm()

    def _update_norm(self) -> None:
        # Between rollouts only: within one, old and new log-probabilities must see the same normaliser.
        data = self._rollout.flat()
        self.ppo.net.update_norm(data["policy"], data["critic"])


def _short(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def make_net(obs: dict[str, Any], actions: int, config: Any, device: torch.device) -> ActorCritic:
    """Return a fresh network that fits a task's observations."""
    return ActorCritic(obs["policy"].shape[1], obs["critic"].shape[1], actions, config).to(device)
