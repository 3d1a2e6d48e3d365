"""VESPO (arXiv 2602.10693): the gradient is weighted by a kernel of the importance weight that is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from policy.rl.objectives.samples import Samples

_LARGEST_LOG = 20.0


def log_kernel(log_weight: torch.Tensor, power: float, rate: float) -> torch.Tensor:
    """Return log phi(W) = power log W + rate (1 - W); phi(1) = 1, the maximum lies at W = power / rate.

    Args:
        log_weight: log W, any shape; clamped to +-20, where phi is zero in float32 anyway.
        power: Exponent c1 of the weight.
        rate: Rate c2 of the exponential fall.
    """
    log_weight = log_weight.clamp(-_LARGEST_LOG, _LARGEST_LOG)
    return rate + power * log_weight - rate * torch.exp(log_weight)


@dataclass(frozen=True)
class VESPO:
    """REINFORCE weighted by phi(W): W^c1 exp(c2 (1 - W)), computed in logarithms, not differentiated.

    W is the product of the probability ratios over a sequence, without length normalisation (with 1 / T the training
    collapses), or of each control step. Over T steps of Gaussian actions |log W| grows like T, and once it leaves the
    kernel's support the whole batch has no gradient: watch `weight`, the mean of phi, which should stay above 0.1.
    """

    level: Literal["sequence", "step"] = "sequence"
    """Whether W is that of a sequence or of each control step."""
    positive: tuple[float, float] = (2.0, 3.0)
    """c1 and c2 where the advantage is at least zero."""
    negative: tuple[float, float] = (3.0, 2.0)
    """c1 and c2 where it is below."""
    name: str = field(default="vespo", init=False)
    """Name in the registry."""

    @property
    def needs_sequences(self) -> bool:
        """Whether W is that of a sequence."""
        return self.level == "sequence"

    def weight(self, samples: Samples) -> torch.Tensor:
        """Return phi (B,) of each step, without gradient."""
        log_weight = samples.log_ratio.detach()
        if self.level == "sequence":
            log_weight = samples.spread(samples.sums(log_weight.clamp(-_LARGEST_LOG, _LARGEST_LOG)))
        gain, harm = log_kernel(log_weight, *self.positive), log_kernel(log_weight, *self.negative)
        return torch.exp(torch.where(samples.advantage >= 0, gain, harm))

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean over all steps of phi A log pi."""
        weight = self.weight(samples)
        loss = -(weight * samples.advantage * samples.log_prob).mean()
        effective = weight.sum().square() / (len(weight) * weight.square().sum()).clamp(min=1e-30)
        return loss, {"weight": weight.mean(), "effective_share": effective}
