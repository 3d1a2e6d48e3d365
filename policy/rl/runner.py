"""The training loop: collect a rollout, learn from it, log, save."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from bodydouble.artifacts import atomic_file
from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.rl.ppo import PPO
from policy.rl.rollout import Rollout


class VectorTask(Protocol):
    """What the runner needs of an environment; TrackingEnv is one.

    A task may have more: `group` (N,), integers from 0, the environments whose episodes are compared by group
    advantages; `snapshot()`, all that its coming steps depend on as arrays by name (or None), and `restore(arrays)`.
    """

    num_envs: int
    """Number of environments N."""

    def reset(self) -> dict[str, Any]:
        """Return observations "policy" (N, P) and "critic" (N, C)."""
        ...

    def step(self, action: Any) -> Any:
        """Return obs, reward, terminated, truncated and final_obs as attributes."""
        ...


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
    """Trains a network in a vector task. Arrays cross between the task and torch here and nowhere else."""

    def __init__(self, task: VectorTask, ppo: PPO, device: torch.device) -> None:
        """Reset the task and allocate the rollout."""
        self.task, self.ppo, self.device = task, ppo, device
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        first = task.reset()
        self._on_torch = all(isinstance(value, torch.Tensor) for value in first.values())
        obs = self._obs = self._to_torch(first)
        sizes = {name: tensor.shape[1] for name, tensor in obs.items()}
        actions = ppo.net.log_std.shape[0]
        self._rollout = Rollout(ppo.config.steps, task.num_envs, sizes, actions, device, ppo.net.config.memory)
        self._memory = ppo.net.empty_memory(task.num_envs)
        self._starts = torch.ones(task.num_envs, dtype=torch.bool, device=device)
        group = getattr(task, "group", None)
        if group is not None:
            self._rollout.group = torch.as_tensor(group, dtype=torch.int64, device=device)

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
            # A first look at the task, so that the first update does not learn from raw observations.
            self.collect()
            self._update_norm()
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
        tensors = {f"obs.{name}": tensor for name, tensor in self._obs.items()}
        tensors |= {"starts": self._starts, "memory": self._memory, "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = self.task.snapshot() if hasattr(self.task, "snapshot") else None  # type: ignore[attr-defined]
        tensors |= {f"task.{name}": torch.as_tensor(array) for name, array in (state or {}).items()}
        # Copies: the task may hold one array under several names, or write to it later.
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the task goes on too, or begins new episodes.

        Raises:
            InputError: The tensors are of another task.
        """
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        state = {name.removeprefix("task."): tensor for name, tensor in tensors.items() if name.startswith("task.")}
        if not state:
            return False
        shapes = {name: tuple(tensor.shape) for name, tensor in self._obs.items()}
        saved = {name: tuple(tensors[f"obs.{name}"].shape) for name in shapes if f"obs.{name}" in tensors}
        if saved != shapes:
            raise InputError(f"the saved observations are {saved}, the task's {shapes}; resume with the same settings")
        on_task = {name: t.to(self.device) if self._on_torch else t.numpy().copy() for name, t in state.items()}
        self.task.restore(on_task)  # type: ignore[attr-defined]
        self._obs = {name: tensors[f"obs.{name}"].to(self.device) for name in shapes}
        self._starts, self._memory = tensors["starts"].to(self.device), tensors["memory"].to(self.device)
        return True

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

    @torch.no_grad()
    def collect(self) -> dict[str, float]:
        """Fill the rollout with the present policy and return mean reward, failure rate and body error."""
        rollout, net = self._rollout, self.ppo.net
        body_error = torch.zeros((), device=self.device)
        for t in range(rollout.steps):
            obs = self._obs
            rollout.memory[t] = self._memory
            action, log_prob, mean, self._memory = net.act(obs["policy"], self._memory * (~self._starts)[:, None])
            result = self.task.step(action if self._on_torch else action.cpu().numpy())
            for name, tensor in obs.items():
                rollout.obs[name][t] = tensor
            rollout.action[t], rollout.log_prob[t], rollout.mean[t] = action, log_prob, mean
            rollout.version[t], rollout.starts[t] = self.ppo.version, self._starts
            rollout.reward[t] = torch.as_tensor(result.reward, device=self.device)
            rollout.terminated[t] = torch.as_tensor(result.terminated, device=self.device)
            rollout.truncated[t] = torch.as_tensor(result.truncated, device=self.device)
            self._starts = rollout.terminated[t] | rollout.truncated[t]
            # The value of the true last state of an episode, which the next observation no longer shows.
            final = self._to_torch(result.final_obs)
            rollout.next_value[t] = net.value(final["critic"])
            rollout.value[t] = net.value(obs["critic"])
            if hasattr(result, "body_error"):
                body_error += torch.as_tensor(result.body_error, device=self.device).mean()
            self._obs = self._to_torch(result.obs)
        return {
            "reward": float(rollout.reward.mean()),
            "failures": float(rollout.terminated.float().sum() / rollout.envs / rollout.steps),
            "body_error": float(body_error / rollout.steps),
        }

    def _update_norm(self) -> None:
        # Between rollouts only: within one, old and new log-probabilities must see the same normaliser.
        data = self._rollout.flat()
        self.ppo.net.update_norm(data["policy"], data["critic"])

    def _to_torch(self, obs: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value, device=self.device) for name, value in obs.items()}


def _short(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def make_net(obs: dict[str, Any], actions: int, config: Any, device: torch.device) -> ActorCritic:
    """Return a fresh network that fits a task's observations."""
    return ActorCritic(obs["policy"].shape[1], obs["critic"].shape[1], actions, config).to(device)
