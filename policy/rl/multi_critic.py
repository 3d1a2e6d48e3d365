"""Advantages of several value functions, each of a reward of its own, as one (Mysore et al. 2022, arXiv 2206.06230).

What a reward is worth is then said by a weight alone: the size of a reward, and how rarely it comes, no longer decide
whether the others are heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from bodydouble.errors import InputError


def weighted_sum(
    advantages: torch.Tensor, weights: Sequence[float], standardised: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Return sum_g w_g A_g / sum_g w_g (B,), each group's advantages brought to mean 0 and standard deviation 1.

    Args:
        advantages: Advantages (B, G) of the groups.
        weights: Weight of each group (G,); empty for all alike.
        standardised: Brings values (B,) to mean 0 and standard deviation 1, over all processes that train together.

    Raises:
        InputError: There are other than G weights, or one is negative, or none is positive.
    """
    groups = advantages.shape[-1]
    given = tuple(weights) or (1.0,) * groups
    if len(given) != groups or min(given) < 0 or not sum(given) > 0:
        raise InputError(
            f"ppo.critic_weights are {given}, expected one of 0 or more for each of {groups} reward groups, not all 0"
        )
    parts = [weight * standardised(advantages[:, group]) for group, weight in enumerate(given)]
    return torch.stack(parts).sum(dim=0) / sum(given)
