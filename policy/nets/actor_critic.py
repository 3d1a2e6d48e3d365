"""ActorCritic: a Gaussian policy, with or without memory, and a value function, each with its own observation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bodydouble.errors import InputError
from policy.nets.history import Encoder, HistoryActor
from policy.nets.mlp import mlp
from policy.nets.normalizer import RunningNorm
from policy.nets.policy_net import Layout, MeanPolicy, PolicyActor, PolicyNet
from policy.nets.recurrent import RecurrentActor
from policy.threads import one_thread

__all__ = ["Actor", "ActorCritic", "MeanPolicy", "NetConfig"]


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the networks."""

    actor_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the policy."""
    critic_layers: tuple[int, ...] = (512, 256, 128)
    """Hidden layers of the value function."""
    init_std: float = 0.5
    """Standard deviation of the actions at the start."""
    memory: int = 0
    """Size of the policy's memory (a GRU before the hidden layers); 0 makes it see the present alone."""
    encoder: Encoder = "none"
    """How the policy reads the history of its observation: all frames alike, or through an encoder."""
    encoded: int = 32
    """Values that the encoder makes of the past."""
    critics: int = 1
    """Value functions, each of a reward of its own; more than one only where a task's rewards are in groups."""

    def __post_init__(self) -> None:
        """Check what does not go together.

        Raises:
            InputError: Memory and encoder are both asked for, or a size is not positive.
        """
        if self.memory and self.encoder != "none":
            raise InputError("net.memory and net.encoder are two ways to know the past; choose one")
        if self.critics < 1 or self.encoded < 1:
            raise InputError(f"net.critics is {self.critics} and net.encoded {self.encoded}, expected at least 1")


class Actor(PolicyActor):
    """Normalised observation to mean action."""

    def __init__(self, obs_size: int, action_size: int, layers: tuple[int, ...]) -> None:
        """Build normaliser and network; a small last layer starts the policy at the reference."""
        super().__init__()
        self.norm = RunningNorm(obs_size)
        self.net = mlp((obs_size, *layers, action_size), last_gain=0.01)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P)."""
        return self.net(self.norm(obs))

    def normal(self, obs: torch.Tensor) -> torch.Tensor:
        """Return mean actions (B, J) of observations (B, P) that are already normalised."""
        return self.net(obs)


class ActorCritic(PolicyNet):
    """The policy and its value functions. P policy and C critic values, J actions, M of memory (0 without)."""

    def __init__(
        self, policy_size: int, critic_size: int, action_size: int, config: NetConfig, layout: Layout = ()
    ) -> None:
        """Build all networks. The critics see their own observation, also what no robot can measure, and no memory.

        Args:
            policy_size: Values P of the policy's observation.
            critic_size: Values C of the critics'.
            action_size: Actions J.
            config: Sizes of the networks.
            layout: Terms of the policy's observation; only an encoder reads it.

        Raises:
            InputError: An encoder is asked for, and the layout is another observation's or has no history.
        """
        super().__init__()
        self.config = config
        with one_thread():
            if config.encoder != "none":
                described = sum(size * history for size, history in layout)
                if described != policy_size:
                    raise InputError(
                        f"net.encoder reads an observation of {described} values in terms, the task's has "
                        f"{policy_size}; use it for a task whose observation says its terms"
                    )
                self.layout = layout
                self.actor = HistoryActor(layout, action_size, config.actor_layers, config.encoder, config.encoded)
            elif config.memory:
                self.actor = RecurrentActor(policy_size, action_size, config.actor_layers, config.memory)
            else:
                self.actor = Actor(policy_size, action_size, config.actor_layers)
            self.log_std = nn.Parameter(torch.full((action_size,), math.log(config.init_std)))
            self.critic_norm = RunningNorm(critic_size)
            sizes = (critic_size, *config.critic_layers, 1)
            # One critic keeps the name that it has in checkpoints of before there could be several.
            self.critic_net = (
                mlp(sizes, last_gain=1.0)
                if config.critics == 1
                else nn.ModuleList([mlp(sizes, last_gain=1.0) for _ in range(config.critics)])
            )

    def value(self, critic_obs: torch.Tensor, *, normalised: bool = False) -> torch.Tensor:
        """Return values of critic observations (B, C), as they come or already normalised.

        Returns:
            Values (B,) of one critic, (B, G) of G.
        """
        x = critic_obs if normalised else self.critic_norm(critic_obs)
        if isinstance(self.critic_net, nn.ModuleList):
            return torch.cat([net(x) for net in self.critic_net], dim=-1)
        return self.critic_net(x).squeeze(-1)

    def act(
        self, obs: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return sampled actions (B, J), their log-probabilities (B,), the mean actions and the next memory (B, M).

        On the CPU they are the same bits at any number of torch's threads.
        """
        with one_thread():
            mean, memory = self.mean(obs, memory)
            action = mean + torch.exp(self.log_std) * torch.randn_like(mean)
            return action, self.log_prob(action, mean), mean, memory

    def means(
        self, obs: torch.Tensor, memory: torch.Tensor, starts: torch.Tensor, steps: int, *, normalised: bool = False
    ) -> torch.Tensor:
        """Return the mean actions (T * B, J) of a minibatch, step after step.

        Args:
            obs: Observations (T * B, P): all B of the first step, then all of the second. Without memory, any rows.
            memory: Memory before each step (T * B, M); that before the first one counts.
            starts: Whether a step is the first of its episode (T * B,), bool.
            steps: Steps T.
            normalised: Whether the observations are already normalised: what many passes see needs it only once.
        """
        if not isinstance(self.actor, RecurrentActor):
            return self.actor.normal(obs) if normalised else self.actor(obs)
        in_time = [tensor.unflatten(0, (steps, -1)) for tensor in (obs, memory, starts)]
        return self.actor.unroll(in_time[0], in_time[1][0], in_time[2], normalised=normalised).flatten(0, 1)

    def log_prob(self, action: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities (B,) of actions under Gaussians of these means."""
        z = (action - mean) * torch.exp(-self.log_std)
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self) -> torch.Tensor:
        """Return the entropy of the action distribution."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
