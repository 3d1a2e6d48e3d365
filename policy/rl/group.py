"""Advantages without a value function: an episode's return against those of its group (Shao et al. 2024)."""

from __future__ import annotations

import torch


def episodes(done: torch.Tensor) -> torch.Tensor:
    """Return which sequence each step belongs to: int64 (T, N) from 0, dense; a sequence ends where `done` (T, N).

    What an environment began before the rollout, or goes on with after it, counts as a sequence of its own here.
    """
    steps, envs = done.shape
    # Ends strictly before a step, so that an episode's last step still belongs to it.
    before = torch.cumsum(done.long(), dim=0) - done.long()
    column = torch.arange(envs, device=done.device) * (steps + 1)
    return torch.unique(before + column, return_inverse=True)[1].view(steps, envs)


def group_advantages(
    rewards: torch.Tensor,
    starts: torch.Tensor,
    done: torch.Tensor,
    group: torch.Tensor | None,
    gamma: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (R - mean R) / std R of whole episodes, over the group that each environment belongs to.

    Only episodes that both began and ended in the rollout have a return; the steps of others get zero.

    Args:
        rewards: Rewards (T, N).
        starts: Whether a step is the first of its episode (T, N), bool.
        done: Whether it is the last (T, N), bool.
        group: Group of each environment (N,), int64 from 0; None makes all of them one group.
        gamma: Discount of the rewards from the episode's start.

    Returns:
        Advantages (T, N), and whether each step belongs to a whole episode (T, N), bool.
    """
    steps, envs = rewards.shape
    sequence = episodes(done)
    flat, count = sequence.flatten(), int(sequence.max()) + 1

    def sums(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(count, device=rewards.device).index_add(0, flat, values.flatten().to(torch.float32))

    time = torch.arange(steps, device=rewards.device)[:, None].expand(steps, envs)
    first = torch.full((count,), steps, device=rewards.device).scatter_reduce(0, flat, time.flatten(), "amin")
    age = time - first[sequence]
    returns = sums(rewards * gamma ** age.to(rewards.dtype))
    whole = (sums(starts) > 0) & (sums(done) > 0)
    if group is None:
        group = torch.zeros(envs, dtype=torch.int64, device=rewards.device)
    member = group.expand(steps, envs).flatten()
    of = torch.zeros(count, dtype=torch.int64, device=rewards.device).scatter(0, flat, member)
    groups = int(group.max()) + 1

    def group_means(values: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(groups, device=rewards.device)
        members = zeros.index_add(0, of, whole.float()).clamp(min=1)
        return zeros.index_add(0, of, values * whole) / members

    centred = returns - group_means(returns)[of]
    spread = group_means(centred.square()).sqrt()[of]
    advantage = torch.where(whole, centred / (spread + 1e-8), torch.zeros_like(centred))
    return advantage[sequence], whole[sequence]
