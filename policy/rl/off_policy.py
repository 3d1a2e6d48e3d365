"""Off-policy training: after each step of all environments, several gradient steps on what the buffer holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from bodydouble.artifacts import atomic_file
from bodydouble.errors import InputError, TrainingError
from policy.checkpoint import MAX_CHECKPOINT_BYTES
from policy.nets.soft import SoftActorCritic, SoftNetConfig
from policy.rl.collect import VectorTask
from policy.rl.phases import phase
from policy.rl.replay import ReplayBuffer
from policy.rl.sac import SAC
from policy.rl.training import Training
from policy.threads import one_thread


class OffPolicyRunner(Training):
    """Trains a SoftActorCritic in a vector task. Arrays cross between task and torch here and nowhere else."""

    def __init__(self, task: VectorTask, sac: SAC, device: torch.device) -> None:
        """Reset the task and allocate the buffer.

        Args:
            task: The task; its `final_obs` must hold "policy" beside "critic".
            sac: The learner.
            device: Where to learn.

        Raises:
            InputError: The buffer would not fit in a checkpoint.
        """
        self.sac, self.device = sac, device
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        self._task = task
        first = task.reset()
        self._on_torch = all(isinstance(value, torch.Tensor) for value in first.values())
        self._obs = self._to_torch(first)
        sizes = {name: tensor.shape[1] for name, tensor in self._obs.items()}
        joints = len(sac.net.actor.bound)
        size = ReplayBuffer.num_bytes(sac.config.buffer, task.num_envs, sizes, joints)
        if sac.config.save_buffer and size > 0.8 * MAX_CHECKPOINT_BYTES:
            raise InputError(
                f"the replay buffer takes {size >> 20} MiB, a checkpoint at most {MAX_CHECKPOINT_BYTES >> 20}; "
                "set sac.save_buffer False, or take a smaller sac.buffer"
            )
        self._buffer = ReplayBuffer(sac.config.buffer, task.num_envs, sizes, joints, device)

    @property
    def learner(self) -> SAC:
        """What learns."""
        return self.sac

    @property
    def steps_per_update(self) -> int:
        """Environment steps of an update."""
        return self.sac.config.steps * self._task.num_envs

    def begin(self) -> None:
        """Nothing comes before the first update: the first steps are collected in it."""

    def advance(self, dump: Path | None) -> dict[str, float]:
        """Act for some control steps, learn after each, and return the figures."""
        config, net = self.sac.config, self.sac.net
        seen: dict[str, list[torch.Tensor]] = {}
        for _ in range(config.steps):
            for name, value in self._act().items():
                seen.setdefault(name, []).append(value)
            if self._buffer.filled < config.warmup:
                continue
            for _ in range(config.gradient_steps):
                with phase("learn"):
                    batch = self._buffer.sample(config.batch, config.gamma, config.n_step)
                    learned = self.sac.update(batch)
                for name, value in learned.items():
                    seen.setdefault(name, []).append(value)
        means = torch.stack([torch.stack(values).float().mean() for values in seen.values()]).tolist()
        stats = {**dict(zip(seen, means, strict=True)), "lr": self.sac.lr}
        try:
            self.sac.check(stats)
        except TrainingError as error:
            if dump is None:
                raise
            tensors = {f"buffer.{name}": tensor.contiguous() for name, tensor in self._buffer.snapshot().items()}
            tensors |= {f"net.{name}": tensor.contiguous() for name, tensor in net.state_dict().items()}
            with atomic_file(dump) as temporary:
                save_file(tensors, str(temporary))
            raise TrainingError(f"{error}; replay buffer and network are in {dump}") from None
        mean_return = getattr(self._task, "mean_return", math.nan)
        return stats if math.isnan(mean_return) else {**stats, "return": mean_return}

    @torch.no_grad()
    def _act(self) -> dict[str, torch.Tensor]:
        """Make one step of all environments and keep it; return what there is to log of it."""
        obs, net, device = self._obs, self.sac.net, self.device
        with phase("normalise"):
            net.update_norm(obs["policy"], obs["critic"])
        with phase("infer"), one_thread():
            action, _ = net.actor.sample(obs["policy"])
        with phase("simulate"):
            result = self._task.step(action if self._on_torch else action.cpu().numpy())
        final = self._to_torch(result.final_obs)
        if "policy" not in final:
            raise InputError("off-policy training needs the policy's final observation; make the task with it")
        step = {
            **obs,
            "next_policy": final["policy"],
            "next_critic": final["critic"],
            "action": action,
            "reward": torch.as_tensor(result.reward, device=device),
            "terminated": torch.as_tensor(result.terminated, device=device),
            "truncated": torch.as_tensor(result.truncated, device=device),
        }
        self._buffer.add(step)
        self._obs = self._to_torch(result.obs)
        stats = {"reward": step["reward"].mean(), "failures": step["terminated"].float().mean()}
        if hasattr(result, "body_error"):
            stats["body_error"] = torch.as_tensor(result.body_error, device=device).mean()
        return stats

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return the task's state, the random state and, where asked for, the buffer, as tensors by name."""
        tensors = {f"obs.{name}": tensor.clone() for name, tensor in self._obs.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        state = self._task.snapshot() if hasattr(self._task, "snapshot") else None  # type: ignore[attr-defined]
        tensors |= {f"task.{name}": torch.as_tensor(array).clone() for name, array in (state or {}).items()}
        if self.sac.config.save_buffer:
            tensors |= {f"buffer.{name}": tensor for name, tensor in self._buffer.snapshot().items()}
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the training goes on exactly.

        It does not without a buffer, which is then filled anew before anything is learned, nor where the task cannot
        say its state.

        Raises:
            InputError: The tensors are of another task or buffer.
        """
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        buffer = _part(tensors, "buffer.")
        if buffer:
            self._buffer.restore(buffer)
        state = _part(tensors, "task.")
        if not state:
            return False
        obs = _part(tensors, "obs.")
        shapes = [{name: tuple(t.shape) for name, t in group.items()} for group in (obs, self._obs)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"the saved observations are {shapes[0]}, the task's {shapes[1]}; resume with the same settings"
            )
        on_task = {name: t.to(self.device) if self._on_torch else t.numpy().copy() for name, t in state.items()}
        self._task.restore(on_task)  # type: ignore[attr-defined]
        self._obs = {name: tensor.to(self.device) for name, tensor in obs.items()}
        return bool(buffer)

    def _to_torch(self, obs: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value, device=self.device) for name, value in obs.items()}


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def make_soft_net(
    obs: dict[str, Any], bound: Sequence[float], config: SoftNetConfig, device: torch.device
) -> SoftActorCritic:
    """Return a fresh network that fits a task's observations and the bounds (J,) of its actions."""
    return SoftActorCritic(obs["policy"].shape[1], obs["critic"].shape[1], bound, config).to(device)


def action_bounds(
    default: Sequence[float], lower: Sequence[float], upper: Sequence[float], scale: Sequence[float]
) -> tuple[float, ...]:
    """Return the actions (J,) that reach the farther of a joint's limits from the default pose.

    Larger ones would be cut off, so that no gradient tells them apart.

    Args:
        default: Default joint positions (J,), rad.
        lower: Lower limits (J,), rad.
        upper: Upper limits (J,), rad.
        scale: Joint offset that one unit of action means (J,), rad.
    """
    middle, low, high = (np.asarray(values, float) for values in (default, lower, upper))
    return tuple((np.maximum(high - middle, middle - low) / np.asarray(scale, float)).tolist())
