"""Generalised advantage estimation with correct bootstrapping at time limits."""

from __future__ import annotations

import torch


def gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    next_values: torch.Tensor,
    terminated: torch.Tensor,
    truncated: torch.Tensor,
    gamma: float,
    lam: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return advantages and returns (Schulman et al. 2016, eq. 16), episodes kept apart.

    `next_values[t]` is the value of the state that step t led to BEFORE any reset. A failed episode has no future;
    one that ran out of time goes on in `next_values`, only its trace is cut.

    Args:
        rewards: Rewards (T, N), or of several value functions (T, N, G).
        values: Values of the states acted in, of the same shape.
        next_values: Values of the states reached, of the same shape.
        terminated: Whether the step failed (T, N), bool.
        truncated: Whether the step ran out of time (T, N), bool.
        gamma: Discount.
        lam: Decay of the trace.

    Returns:
        Advantages and value targets, each of the rewards' shape.
    """
    if rewards.ndim > terminated.ndim:
        terminated, truncated = terminated[..., None], truncated[..., None]
    alive = (~terminated).to(rewards.dtype)
    goes_on = (~(terminated | truncated)).to(rewards.dtype)
    delta = rewards + gamma * alive * next_values - values
    advantages = torch.empty_like(rewards)
    trace = torch.zeros_like(rewards[0])
    for t in range(rewards.shape[0] - 1, -1, -1):
        trace = delta[t] + gamma * lam * goes_on[t] * trace
        advantages[t] = trace
    return advantages, advantages + values
