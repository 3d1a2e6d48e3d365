"""SAPO (Gao et al. 2025): a sigmoid of the ratio instead of the clip."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from policy.rl.objectives.samples import Samples


@dataclass(frozen=True)
class SAPO:
    """Gain f(ratio) A with f = 4 / tau sigmoid(tau (ratio - 1)): slope one at one, flat far away."""

    tau_positive: float = 1.0
    """Temperature where the advantage is at least zero."""
    tau_negative: float = 1.05
    """Temperature where it is below."""
    name: str = field(default="sapo", init=False)
    """Name in the registry."""
    needs_sequences: bool = field(default=False, init=False)
    """It takes single steps."""

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean of the gains."""
        ratio = torch.exp(samples.log_ratio)
        tau = torch.where(samples.advantage >= 0, self.tau_positive, self.tau_negative)
        gate = torch.sigmoid(tau * (ratio - 1))
        loss = -(4 / tau * gate * samples.advantage).mean()
        return loss, {"weight": (4 * gate * (1 - gate)).detach().mean()}
