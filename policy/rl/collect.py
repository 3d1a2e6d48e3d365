"""Collector: a policy acts in a task and what happens is written to a rollout."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from bodydouble.errors import InputError
from policy.nets.actor_critic import ActorCritic
from policy.rl.phases import phase
from policy.rl.rollout import Rollout


class VectorTask(Protocol):
    """What the runner needs of an environment; TrackingEnv is one.

    A task may have more: its steps' `rewards` (N, G), the parts of the reward that value functions of their own learn;
    `group` (N,), integers from 0, the environments whose episodes are compared by group advantages; `mean_return`, of
    its last finished episodes (NaN before the first); `snapshot()`, all that its coming steps depend on as arrays by
    name (or None), and `restore(arrays)`.
    """

    num_envs: int
    """Number of environments N."""

    def reset(self) -> dict[str, Any]:
        """Return observations "policy" (N, P) and "critic" (N, C)."""
        ...

    def step(self, action: Any) -> Any:
        """Return obs, reward, terminated, truncated and final_obs as attributes."""
        ...


class Collector:
    """Goes on in a task from rollout to rollout. Arrays cross between task and torch here and nowhere else."""

    def __init__(self, task: VectorTask, net: ActorCritic, device: torch.device) -> None:
        """Reset the task.

        Raises:
            InputError: Its observations have other sizes than the network reads.
        """
        self.task, self.device = task, device
        first = task.reset()
        reads = {"policy": net.actor.norm.mean.shape[0], "critic": net.critic_norm.mean.shape[0]}
        for name, size in reads.items():
            if first[name].shape[1] != size:
                raise InputError(
                    f"the task gives {first[name].shape[1]} values for the {name}, the network reads {size}; start "
                    "from a checkpoint of this task, or from none"
                )
        self._on_torch = all(isinstance(value, torch.Tensor) for value in first.values())
        self._obs = self._to_torch(first)
        self._action_size, self._memory_size = net.log_std.shape[0], net.config.memory
        self._critics = net.config.critics
        self._memory = net.empty_memory(task.num_envs)
        self._starts = torch.ones(task.num_envs, dtype=torch.bool, device=device)

    def make_rollout(self, steps: int) -> Rollout:
        """Return an empty rollout of the task, T = steps."""
        sizes = {name: tensor.shape[1] for name, tensor in self._obs.items()}
        rollout = Rollout(
            steps, self.task.num_envs, sizes, self._action_size, self.device, self._memory_size, self._critics
        )
        group = getattr(self.task, "group", None)
        if group is not None:
            rollout.group = torch.as_tensor(group, dtype=torch.int64, device=self.device)
        return rollout

    @torch.no_grad()
    def collect(self, net: ActorCritic, rollout: Rollout, version: int) -> dict[str, float]:
        """Fill a rollout; its values are left to `value_rollout`.

        Args:
            net: The policy that acts.
            rollout: What to fill.
            version: Gradient steps that the policy has behind it.

        Returns:
            Mean reward, failure rate, the mean body error, and the mean return of finished episodes; the last two
            where the task knows them (the body error is 0 otherwise).
        """
        body_error = torch.zeros((), device=self.device)
        rollout.version.fill_(version)
        for t in range(rollout.steps):
            obs = self._obs
            rollout.memory[t] = self._memory
            with phase("infer"):
                memory = self._memory * (~self._starts)[:, None]
                action, log_prob, mean, self._memory = net.act(obs["policy"], memory)
            with phase("simulate"):
                result = self.task.step(action if self._on_torch else action.cpu().numpy())
            for name, tensor in obs.items():
                rollout.obs[name][t] = tensor
            rollout.action[t], rollout.log_prob[t], rollout.mean[t] = action, log_prob, mean
            rollout.starts[t] = self._starts
            rollout.reward[t] = torch.as_tensor(result.reward, device=self.device)
            if self._critics > 1:
                rollout.rewards[t] = self._grouped(result)
            rollout.terminated[t] = torch.as_tensor(result.terminated, device=self.device)
            rollout.truncated[t] = torch.as_tensor(result.truncated, device=self.device)
            rollout.reached[t] = torch.as_tensor(result.final_obs["critic"], device=self.device)
            self._starts = rollout.terminated[t] | rollout.truncated[t]
            if hasattr(result, "body_error"):
                body_error += torch.as_tensor(result.body_error, device=self.device).mean()
            self._obs = self._to_torch(result.obs)
        stats = {
            "reward": float(rollout.reward.mean()),
            "failures": float(rollout.terminated.float().sum() / rollout.envs / rollout.steps),
            "body_error": float(body_error / rollout.steps),
        }
        mean_return = getattr(self.task, "mean_return", math.nan)
        return stats if math.isnan(mean_return) else {**stats, "return": mean_return}

    def _grouped(self, result: Any) -> torch.Tensor:
        rewards = getattr(result, "rewards", None)
        if rewards is None or rewards.shape[-1] != self._critics:
            given = "none" if rewards is None else rewards.shape[-1]
            raise InputError(
                f"net.critics is {self._critics}, the task gives {given} groups of rewards; name as many with its "
                "reward groups"
            )
        return torch.as_tensor(rewards, device=self.device)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return all that the next rollout depends on beside network and random state, as tensors by name."""
        tensors = {f"obs.{name}": tensor for name, tensor in self._obs.items()}
        tensors |= {"starts": self._starts, "memory": self._memory}
        state = self.task.snapshot() if hasattr(self.task, "snapshot") else None  # type: ignore[attr-defined]
        tensors |= {f"task.{name}": torch.as_tensor(array) for name, array in (state or {}).items()}
        # Copies: the task may hold one array under several names, or write to it later.
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the task goes on too, or begins new episodes.

        Raises:
            InputError: The tensors are of another task.
        """
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

    def _to_torch(self, obs: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value, device=self.device) for name, value in obs.items()}
