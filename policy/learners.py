"""PPO or SAC for a task: the network, what learns it, and its training, by the settings' name for the algorithm."""

from __future__ import annotations

from typing import Literal, Protocol

import torch

from bodydouble.errors import InputError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.nets.policy_net import PolicyNet
from policy.nets.soft import SoftActorCritic
from policy.rl.collect import VectorTask
from policy.rl.off_policy import OffPolicyRunner, make_soft_net
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.ranks import Ranks
from policy.rl.runner import Runner, make_net
from policy.rl.sac import SAC, SACConfig
from policy.rl.training import Training

Algorithm = Literal["ppo", "sac"]
"""How a policy is trained: "ppo", from what the present policy did, or "sac", from all that a replay buffer holds."""


class LearnerSettings(Protocol):
    """What the settings of every training name."""

    @property
    def algorithm(self) -> Algorithm:
        """How to train."""
        ...

    @property
    def net(self) -> NetConfig:
        """PPO's networks."""
        ...

    @property
    def ppo(self) -> PPOConfig:
        """PPO."""
        ...

    @property
    def sac(self) -> SACConfig:
        """SAC."""
        ...


def fresh_net(
    settings: LearnerSettings,
    obs: dict,
    bound: tuple[float, ...],
    device: torch.device,
    layout: tuple[tuple[int, int], ...],
) -> PolicyNet:
    """Return a network that has learned nothing.

    Args:
        settings: The training's.
        obs: Observations "policy" (N, P) and "critic" (N, C) of the task.
        bound: Largest size of each action (J,); only SAC's policy is bounded.
        device: Where to learn.
        layout: Size and history of each term of the policy's observation.
    """
    if settings.algorithm == "sac":
        return make_soft_net(obs, bound, settings.sac.net, device)
    return make_net(obs, len(bound), settings.net, device, layout)


def make_training(
    settings: LearnerSettings, task: VectorTask, net: PolicyNet, device: torch.device, ranks: Ranks
) -> Training:
    """Return the training of a network in a task.

    Raises:
        InputError: The network is of the other algorithm, or several processes are to train with SAC.
    """
    if isinstance(net, SoftActorCritic) != (settings.algorithm == "sac"):
        raise InputError(
            f"config.algorithm is {settings.algorithm}, the checkpoint to start from is of the other kind; name that "
            "one, or start with --config.warm-start none"
        )
    if isinstance(net, SoftActorCritic):
        if ranks.size > 1:
            raise InputError("config.algorithm sac trains in one process; start it without torchrun, or take ppo")
        return OffPolicyRunner(task, SAC(net, settings.sac), device)
    assert isinstance(net, ActorCritic)
    return Runner(task, PPO(net, settings.ppo, ranks), device)
