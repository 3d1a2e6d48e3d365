"""The policy gradient as it is: the controls of every comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from policy.rl.objectives.samples import Samples


@dataclass(frozen=True)
class PolicyGradient:
    """REINFORCE with advantages, uncorrected or weighted by the probability ratio."""

    importance: bool = False
    """Whether each step is weighted by its probability ratio."""
    name: str = field(default="policy_gradient", init=False)
    """Name in the registry."""
    needs_sequences: bool = field(default=False, init=False)
    """It takes single steps."""

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean of A log pi, weighted if asked for."""
        weight = torch.exp(samples.log_ratio.detach()) if self.importance else torch.ones_like(samples.behaviour)
        return -(weight * samples.advantage * samples.log_prob).mean(), {"weight": weight.mean()}
