"""NAMO and NAMO-D (arXiv 2602.17080): Muon whose step shrinks where the gradient is mostly noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch

from policy.optim.matrix import MatrixOptimizer, Scale
from policy.optim.orthogonal import Method

Neurons = Literal["columns", "rows"]
"""Which vectors of a weight matrix NAMO-D gives a step size of their own."""


def _correction(state: dict[str, Any], group: dict[str, Any]) -> float:
    """Return the bias correction sqrt(1 - mu2^t) / (1 - mu1^t).

    With Nesterov's look-ahead the momentum has seen one gradient more, so mu1 is taken to t + 1: a constant gradient
    then gives a step of exactly one at every t, as without it. (The paper's code keeps t, which makes the first step
    1 + mu1 times too large.)
    """
    t = float(state["step"])
    seen = t + 1 if group["nesterov"] else t
    return math.sqrt(1 - group["second_momentum"] ** t) / (1 - group["momentum"] ** seen)


class Namo(MatrixOptimizer):
    """One step size per matrix: alpha = |mean gradient| / root of the mean squared gradient norm."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        second_momentum: float = 0.99,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        scale: Scale = "match_rms_adamw",
        method: Method = "newton_schulz",
        eps: float = 1e-8,
    ) -> None:
        """Take matrices; `second_momentum` is the decay mu2 of the squared gradient norm."""
        super().__init__(
            params, lr, momentum, nesterov, weight_decay, scale, method, second_momentum=second_momentum, eps=eps
        )

    def _step_size(
        self, momentum: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> torch.Tensor:
        if "square" not in state:
            state["square"] = gradient.new_zeros(())
        state["square"].lerp_(gradient.square().sum(), 1 - group["second_momentum"])
        return _correction(state, group) * momentum.norm() / (state["square"].sqrt() + group["eps"])


class NamoD(MatrixOptimizer):
    """One step size per column (or row) of a matrix, kept within a factor of the columns' mean."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        second_momentum: float = 0.99,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        scale: Scale = "match_rms_adamw",
        method: Method = "newton_schulz",
        eps: float = 1e-8,
        clamp: float = 0.75,
        neurons: Neurons = "columns",
    ) -> None:
        """Take matrices.

        Args:
            params: Parameters of two or more dimensions.
            lr: Learning rate.
            momentum: Decay mu1 of the gradient's running mean.
            second_momentum: Decay mu2 of the squared norms.
            nesterov: Whether to look one step ahead.
            weight_decay: Decay of the weights per step, in units of the learning rate; each column's own.
            scale: How a step grows with the shape.
            method: How to orthogonalise.
            eps: Added to the root of the mean squared norms.
            clamp: c in (0, 1]: step sizes are kept between c and 1 / c times their mean.
            neurons: "columns" as the paper's equations have it; for torch.nn.Linear, whose weight is (out, in), these
                are the input features, and "rows" are the neurons.
        """
        super().__init__(
            params, lr, momentum, nesterov, weight_decay, scale, method,
            second_momentum=second_momentum, eps=eps, clamp=clamp, neurons=neurons,
        )  # fmt: skip

    def _step_size(
        self, momentum: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> torch.Tensor:
        along = 0 if group["neurons"] == "columns" else 1
        square = gradient.square().sum(dim=along, keepdim=True)
        if "square" not in state:
            state["square"] = torch.zeros_like(square)
        state["square"].lerp_(square, 1 - group["second_momentum"])
        norm = momentum.norm(dim=along, keepdim=True)
        size = _correction(state, group) * norm / (state["square"].sqrt() + group["eps"])
        mean = size.mean()
        return torch.minimum(torch.maximum(size, group["clamp"] * mean), mean / group["clamp"])
