"""Gradients: those of all parameters as one tensor, so that emptying, measuring and scaling them is one call each."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import torch


class Gradients:
    """Every parameter's `grad` is a view of one tensor meanwhile. A context manager: leaving it takes them away."""

    def __init__(self, params: Sequence[torch.nn.Parameter]) -> None:
        """Take parameters of one type on one device."""
        self._params = params
        self.flat = torch.zeros(sum(p.numel() for p in params), dtype=params[0].dtype, device=params[0].device)

    def __enter__(self) -> Gradients:
        """Link the parameters and return itself."""
        for parameter, part in zip(self._params, self.flat.split([p.numel() for p in self._params]), strict=True):
            parameter.grad = part.view_as(parameter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the parameters without gradients, so that whoever comes next begins with none."""
        for parameter in self._params:
            parameter.grad = None

    def empty(self) -> None:
        """Set all to zero."""
        self.flat.zero_()

    def clip(self, largest: float) -> torch.Tensor:
        """Scale all down to a norm of at most `largest`; return the norm that they had, a scalar."""
        norm = torch.linalg.vector_norm(self.flat)
        # As torch.nn.utils.clip_grad_norm_: the factor is applied always, so that nothing waits for the norm.
        self.flat.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
        return norm
