"""The values of a rollout's states, after it was collected: large batches in place of one pass per step."""

from __future__ import annotations

import torch

from policy.nets.actor_critic import ActorCritic
from policy.rl.rollout import Rollout

_ROWS = 65_536
"""Observations that are valued at once; bounds the memory."""


@torch.no_grad()
def value_rollout(net: ActorCritic, rollout: Rollout) -> None:
    """Fill in the values of the states acted in and of those reached.

    A state reached is the next one acted in, except at an episode's end and at the rollout's: there its own
    observation is valued, which a new episode does not show any more.
    """
    values = [net.value(rows) for rows in rollout.obs["critic"].flatten(0, 1).split(_ROWS)]
    rollout.value.copy_(torch.cat(values).view_as(rollout.value))
    rollout.next_value[:-1] = rollout.value[1:]
    apart = rollout.terminated | rollout.truncated
    apart[-1] = True
    rollout.next_value[apart] = torch.cat([net.value(rows) for rows in rollout.reached[apart].split(_ROWS)])
