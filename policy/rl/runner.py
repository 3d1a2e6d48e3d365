"""PPO's training: collect a rollout, learn from it, in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bodydouble.artifacts import atomic_file
from bodydouble.errors import TrainingError
from policy.nets.actor_critic import ActorCritic
from policy.nets.policy_net import Layout
from policy.rl.bootstrap import value_rollout
from policy.rl.collect import Collector, VectorTask
from policy.rl.phases import phase
from policy.rl.ppo import PPO
from policy.rl.ranks import Ranks
from policy.rl.training import Progress, Training

__all__ = ["Progress", "Runner", "VectorTask", "make_net"]


class Runner(Training):
    """Trains a network in a vector task: collects, then learns, in turn."""

    def __init__(self, task: VectorTask, ppo: PPO, device: torch.device) -> None:
        """Reset the task and allocate the rollout."""
        self.ppo, self.device = ppo, device
        self.update, self.env_steps, self.seconds = 0, 0, 0.0
        self._collector = Collector(task, ppo.net, device)
        self._rollout = self._collector.make_rollout(ppo.config.steps)

    @property
    def learner(self) -> PPO:
        """What learns."""
        return self.ppo

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.ppo.ranks

    @property
    def steps_per_update(self) -> int:
        """Environment steps of a rollout, all ranks' together."""
        return self._rollout.steps * self._rollout.envs * self.ranks.size

    def begin(self) -> None:
        """Do nothing: the first rollout is looked at and learned from."""

    def advance(self, dump: Path | None) -> dict[str, float]:
        """Collect a rollout, learn from it and return the figures of both."""
        fresh = float(self.ppo.net.actor.norm.count) == 0
        collected = self.collect()
        if fresh:
            self._look()
        stats = {**collected, **self._learn(dump)}
        if not fresh:
            self._update_norm()
        self.ranks.check_alike(self.ppo.net, self.ppo.lr)
        return self.ranks.mean_stats(stats)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return all that the next update depends on beside network and optimizer, as tensors by name.

        Without entries of the task where that cannot say its state: a training resumed from it begins new episodes.
        The first rank gets all ranks' tensors, the others none: every rank must call it.
        """
        return self.ranks.gather_tensors(self._snapshot())

    def restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        """Go on from what `snapshot` returned; return whether the task goes on too, or begins new episodes.

        Raises:
            InputError: The tensors are of another task.
        """
        own = self.ranks.own_tensors(tensors)
        # None of its own: this rank was not there when the checkpoint was written.
        return bool(own) and self._restore(own)

    def _snapshot(self) -> dict[str, torch.Tensor]:
        tensors = self._collector.snapshot() | {"rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def _restore(self, tensors: dict[str, torch.Tensor]) -> bool:
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        return self._collector.restore(tensors)

    def _learn(self, dump: Path | None) -> dict[str, float]:
        try:
            with phase("learn"):
                return self.ppo.update(self._rollout)
        except TrainingError as error:
            if dump is None:
                raise
            tensors = {f"rollout.{name}": t.contiguous() for name, t in self._rollout.named().items()}
            tensors |= {f"net.{name}": t.contiguous() for name, t in self.ppo.net.state_dict().items()}
            with atomic_file(dump) as temporary:
                save_file(tensors, str(temporary))
            raise TrainingError(f"{error}; rollout and network are in {dump}; see `bodydouble view {dump}`") from None

    def collect(self) -> dict[str, float]:
        """Fill the rollout with the present policy and return mean reward, failure rate and body error."""
        stats = self._collector.collect(self.ppo.net, self._rollout, self.ppo.version)
        with phase("value"):
            value_rollout(self.ppo.net, self._rollout)
        return stats

    def _look(self) -> None:
        """Fit a fresh network's normaliser to its first rollout, so that it does not learn from raw observations."""
        self._update_norm()
        with phase("value"):
            value_rollout(self.ppo.net, self._rollout)
        # Behind a normaliser that has seen nothing acted another policy than the one that learns.
        self._rollout.version.fill_(self.ppo.version - 1)

    def _update_norm(self) -> None:
        # Between rollouts only: within one, old and new log-probabilities must see the same normaliser.
        data = self._rollout.flat()
        with phase("normalise"):
            self.ppo.net.update_norm(data["policy"], data["critic"], self.ranks)


def make_net(obs: dict[str, Any], actions: int, config: Any, device: torch.device, layout: Layout = ()) -> ActorCritic:
    """Return a fresh network that fits a task's observations, whose terms an encoder needs to know."""
    return ActorCritic(obs["policy"].shape[1], obs["critic"].shape[1], actions, config, layout).to(device)
