"""Imitation of a teacher: behaviour cloning and DAgger (Ross et al. 2011), also of one that sees more than the student.

The teacher is handed in as a function, so it may be a planner, an ONNX policy or a network with privileged state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.optim.registry import AdamConfig, AnyOptimizer
from policy.rl.runner import VectorTask

Teacher = Callable[[dict[str, torch.Tensor]], torch.Tensor]
"""Observations by group, "policy" (N, P) and "critic" (N, C), to the actions (N, J) that should be taken."""


@dataclass(frozen=True)
class ImitationConfig:
    """How a student imitates. One round is behaviour cloning; more are DAgger."""

    rounds: int = 8
    """Rounds; each acts, asks the teacher what it would have done, and fits to all that was seen so far."""
    steps: int = 64
    """Control steps of each environment in a round."""
    teacher_share: float = 0.5
    """Share of the episodes in which the teacher acts: all in the first round, this in the second, its square then."""
    epochs: int = 10
    """Passes over everything seen so far, per round."""
    minibatches: int = 8
    """Parts of a pass, each one gradient step."""
    max_grad_norm: float = 1.0
    """Bound on the gradient's norm."""
    optimizer: AnyOptimizer = field(default_factory=AdamConfig)
    """The optimizer."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One of them cannot work.
        """
        for name in ("rounds", "steps", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise InputError(f"imitation: {name} is {getattr(self, name)}, expected at least 1")
        if not 0.0 <= self.teacher_share <= 1.0:
            raise InputError(f"imitation: teacher_share is {self.teacher_share}, expected 0 to 1")


@dataclass(frozen=True)
class _Seen:
    """T steps of B environments."""

    obs: torch.Tensor
    """Policy observations (T, B, P)."""
    target: torch.Tensor
    """The teacher's actions (T, B, J)."""
    starts: torch.Tensor
    """Whether a step is the first of its episode (T, B), bool."""
    memory: torch.Tensor
    """The student's memory before the first step (B, M)."""

    def joined(self, other: _Seen) -> _Seen:
        """Return both, side by side."""
        return _Seen(
            obs=torch.cat([self.obs, other.obs], dim=1),
            target=torch.cat([self.target, other.target], dim=1),
            starts=torch.cat([self.starts, other.starts], dim=1),
            memory=torch.cat([self.memory, other.memory]),
        )


class Imitation:
    """Fits a network's mean action to a teacher's, on the states that teacher and student come to."""

    def __init__(
        self, task: VectorTask, net: ActorCritic, teacher: Teacher, config: ImitationConfig, device: torch.device
    ) -> None:
        """Reset the task; spread and value function of the network are left as they are."""
        self.task, self.net, self.teacher, self.config, self.device = task, net, teacher, config, device
        self.optimizer = config.optimizer.build(net.actor.parameters())
        first = task.reset()
        self._on_torch = all(isinstance(value, torch.Tensor) for value in first.values())
        self._obs = self._to_torch(first)
        self._starts = torch.ones(task.num_envs, dtype=torch.bool, device=device)
        self._memory = net.empty_memory(task.num_envs)
        self._taught = torch.ones(task.num_envs, dtype=torch.bool, device=device)
        self._seen: _Seen | None = None
        if net.config.memory and task.num_envs < config.minibatches:
            raise InputError(
                f"a policy with memory takes whole sequences: {task.num_envs} environments do not fill "
                f"{config.minibatches} minibatches; take more envs or fewer minibatches"
            )

    def train(self, on_round: Callable[[dict[str, float]], None] = lambda stats: None) -> dict[str, float]:
        """Run all rounds.

        Args:
            on_round: Called after each round with its figures.

        Returns:
            The last round's figures: "round", "teacher_share", "reward" (mean), "disagreement" (root mean square
            distance of the student's actions to the teacher's on the new states, before it was fitted to them) and
            "fit" (the same on all states, during the last pass).

        Raises:
            InputError: The teacher's actions have another shape than the network's.
            TrainingError: Actions or losses are not finite.
        """
        stats: dict[str, float] = {}
        for number in range(self.config.rounds):
            share = self.config.teacher_share**number if number else 1.0
            new, reward, disagreement = self._collect(share)
            self._seen = new if self._seen is None else self._seen.joined(new)
            stats = {
                "round": float(number + 1), "teacher_share": share, "reward": reward,
                "disagreement": disagreement, "fit": self._fit(self._seen),
            }  # fmt: skip
            on_round(stats)
        return stats

    @torch.no_grad()
    def _collect(self, share: float) -> tuple[_Seen, float, float]:
        """Act for a round; return what was seen, the mean reward and the disagreement."""
        net, before = self.net, self._memory
        obs, target, starts = [], [], []
        reward = distance = torch.zeros((), device=self.device)
        critic = []
        for _ in range(self.config.steps):
            # Who acts is decided anew for every episode; the student's memory runs along in either case.
            drawn = torch.rand(self.task.num_envs, device=self.device) < share
            self._taught = torch.where(self._starts, drawn, self._taught)
            mean, memory = net.mean(self._obs["policy"], self._memory * (~self._starts)[:, None])
            wanted = self._ask(mean)
            obs.append(self._obs["policy"])
            critic.append(self._obs["critic"])
            target.append(wanted)
            starts.append(self._starts)
            distance = distance + (mean - wanted).square().mean()
            action = torch.where(self._taught[:, None], wanted, mean)
            result = self.task.step(action if self._on_torch else action.cpu().numpy())
            reward = reward + torch.as_tensor(result.reward, device=self.device).mean()
            done = torch.as_tensor(result.terminated) | torch.as_tensor(result.truncated)
            self._starts, self._memory = done.to(self.device), memory
            self._obs = self._to_torch(result.obs)
        seen = _Seen(torch.stack(obs), torch.stack(target), torch.stack(starts), before)
        # After the round: within it, all actions are of one network.
        net.update_norm(seen.obs.flatten(0, 1), torch.cat(critic))
        steps = self.config.steps
        return seen, float(reward / steps), float((distance / steps).sqrt())

    def _ask(self, mean: torch.Tensor) -> torch.Tensor:
        wanted = self.teacher(self._obs)
        if wanted.shape != mean.shape:
            raise InputError(
                f"the teacher gave actions of shape {tuple(wanted.shape)}, the student has {tuple(mean.shape)}"
            )
        if not bool(torch.isfinite(wanted).all()):
            raise TrainingError("the teacher gave an action that is not finite; nothing was learned from this round")
        return wanted

    def _fit(self, seen: _Seen) -> float:
        """Pass over everything; return the root mean square error of the last pass."""
        last = torch.zeros((), device=self.device)
        for _ in range(self.config.epochs):
            last = torch.zeros((), device=self.device)
            for mean, target in self._batches(seen):
                loss = (mean - target).square().mean()
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.net.actor.parameters(), self.config.max_grad_norm)
                self.optimizer.step()
                last = last + loss.detach()
        error = float((last / self.config.minibatches).sqrt())
        if not torch.isfinite(torch.tensor(error)):
            lr = self.config.optimizer.lr
            raise TrainingError(f"imitation diverged: its error is not finite; lower optimizer.lr (now {lr:g})")
        return error

    def _batches(self, seen: _Seen) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the student's and the teacher's actions: of single steps, or with memory of whole sequences."""
        parts = self.config.minibatches
        if self.net.config.memory:
            for index in _parts(seen.obs.shape[1], parts, self.device):
                steps = seen.obs.shape[0]
                mean = self.net.means(
                    seen.obs[:, index].flatten(0, 1),
                    seen.memory[index].expand(steps, -1, -1).flatten(0, 1),
                    seen.starts[:, index].flatten(),
                    steps,
                )
                yield mean, seen.target[:, index].flatten(0, 1)
            return
        obs, target = seen.obs.flatten(0, 1), seen.target.flatten(0, 1)
        for index in _parts(len(obs), parts, self.device):
            yield self.net.mean(obs[index], obs.new_zeros(len(index), 0))[0], target[index]

    def _to_torch(self, obs: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value, device=self.device) for name, value in obs.items()}


def _parts(size: int, parts: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield random parts of the indices, of equal size but for what is left over."""
    yield from torch.tensor_split(torch.randperm(size, device=device), parts)
