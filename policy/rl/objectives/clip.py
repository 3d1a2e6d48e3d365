"""Objectives with a clipped ratio: PPO and GRPO per control step, GSPO per sequence."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from policy.rl.objectives.samples import Samples


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return min(ratio * A, clip(ratio, 1 - low, 1 + high) * A), elementwise (Schulman et al. 2017, eq. 7)."""
    return torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - low, 1 + high) * advantage)


def clipped_share(ratio: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return the share of ratios outside the range."""
    return ((ratio < 1 - low) | (ratio > 1 + high)).float().mean()


@dataclass(frozen=True)
class PPOClip:
    """PPO's clipped ratio of each control step."""

    clip: float = 0.2
    """Clipping range of the probability ratio."""
    name: str = field(default="ppo_clip", init=False)
    """Name in the registry."""
    needs_sequences: bool = field(default=False, init=False)
    """It takes single steps."""

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean of the clipped gains."""
        ratio = torch.exp(samples.log_ratio)
        gain = clipped(ratio, samples.advantage, self.clip, self.clip)
        return -gain.mean(), {"clipped": clipped_share(ratio.detach(), self.clip, self.clip)}


@dataclass(frozen=True)
class GRPO:
    """GRPO: clipped steps, averaged within each sequence first (Shao et al. 2024), with advantages of a group.

    The wider upper range is that of DAPO (Yu et al. 2025).
    """

    clip_low: float = 0.2
    """Clipping range below one."""
    clip_high: float = 0.28
    """Clipping range above one."""
    name: str = field(default="grpo", init=False)
    """Name in the registry."""
    needs_sequences: bool = field(default=True, init=False)
    """It averages over sequences."""

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean over sequences of the steps' mean clipped gain."""
        ratio = torch.exp(samples.log_ratio)
        gain = samples.means(clipped(ratio, samples.advantage, self.clip_low, self.clip_high))
        return -gain.mean(), {"clipped": clipped_share(ratio.detach(), self.clip_low, self.clip_high)}


@dataclass(frozen=True)
class GSPO:
    """GSPO (Zheng et al. 2025): one ratio per sequence, the geometric mean of its steps', clipped.

    Steps keep their own advantages (the paper's GSPO-token); where a sequence has one advantage it is plain GSPO.
    """

    clip_low: float = 3e-4
    """Clipping range below one."""
    clip_high: float = 4e-4
    """Clipping range above one."""
    name: str = field(default="gspo", init=False)
    """Name in the registry."""
    needs_sequences: bool = field(default=True, init=False)
    """Its ratio is a sequence's."""

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the negative mean over sequences of the clipped gain."""
        per_sequence = torch.exp(samples.means(samples.log_ratio.detach()))
        # The value is the sequence's ratio, the gradient that of the step's log-probability.
        ratio = samples.spread(per_sequence) * torch.exp(samples.log_prob - samples.log_prob.detach())
        gain = samples.means(clipped(ratio, samples.advantage, self.clip_low, self.clip_high))
        return -gain.mean(), {"clipped": clipped_share(per_sequence, self.clip_low, self.clip_high)}
