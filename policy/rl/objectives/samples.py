"""Samples: what every objective sees, and the interface that every objective has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Samples:
    """B control steps of a minibatch."""

    log_prob: torch.Tensor
    """Log-probabilities of the actions under the present policy (B,), with gradient."""
    behaviour: torch.Tensor
    """Their log-probabilities under the policy that acted (B,)."""
    advantage: torch.Tensor
    """Advantages (B,)."""
    sequence: torch.Tensor | None = None
    """Which sequence each step belongs to (B,), int64 from 0; None where single steps were drawn."""

    @property
    def log_ratio(self) -> torch.Tensor:
        """Logarithms of the probability ratios (B,)."""
        return self.log_prob - self.behaviour

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sums (S,) of values (B,) over each of the S sequences.

        Raises:
            ValueError: The samples are single steps.
        """
        if self.sequence is None:
            raise ValueError("these samples are single steps, the objective needs whole sequences")
        count = int(self.sequence.max()) + 1
        return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, self.sequence, values)

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Return the means (S,) of values (B,) over each sequence."""
        return self.sums(values) / self.sums(torch.ones_like(values))

    def spread(self, per_sequence: torch.Tensor) -> torch.Tensor:
        """Return each step's value (B,) of its sequence's (S,)."""
        assert self.sequence is not None
        return per_sequence[self.sequence]


class Objective(Protocol):
    """A loss of the policy."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def needs_sequences(self) -> bool:
        """Whether the samples must be whole sequences, with `Samples.sequence`."""
        ...

    def loss(self, samples: Samples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to be minimised, a scalar, and scalars worth logging (without gradient)."""
        ...
