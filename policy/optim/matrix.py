"""Muon, and the step that it shares with its adaptive relatives: each weight matrix moves along an orthogonal one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch

from bodydouble.errors import InputError
from policy.optim.orthogonal import Method, orthogonalise

Scale = Literal["match_rms_adamw", "original", "none"]
"""How a step grows with the matrix' shape."""


def shape_scale(scale: Scale, rows: int, columns: int) -> float:
    """Return the factor on the orthogonal matrix.

    "match_rms_adamw" (0.2 sqrt(max(rows, columns)), Liu et al. 2025) makes the step's root mean square 0.2, as AdamW's
    typically is, so that AdamW's learning rates carry over; "original" is Muon's sqrt(max(1, rows / columns)).
    """
    if scale == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns)) if scale == "original" else 1.0


class MatrixOptimizer(torch.optim.Optimizer):
    """Base of the optimizers that orthogonalise the momentum of weight matrices.

    Parameters of more than two dimensions are seen as matrices (first, all others).
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        scale: Scale,
        method: Method,
        **more: Any,
    ) -> None:
        """Take the parameters.

        Args:
            params: Parameters of two or more dimensions.
            lr: Learning rate.
            momentum: Decay of the gradient's running mean.
            nesterov: Whether to look one step ahead.
            weight_decay: Decay of the weights per step, in units of the learning rate.
            scale: How a step grows with the shape.
            method: How to orthogonalise.
            more: Settings of the subclass.

        Raises:
            InputError: A parameter is no matrix.
        """
        settings = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "scale": scale,
            "method": method, **more,
        }  # fmt: skip
        super().__init__(params, settings)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise InputError(
                        f"{type(self).__name__} got a parameter of shape {tuple(parameter.shape)}, it takes matrices "
                        "only; build it from its configuration, which gives the rest to AdamW"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, self.state[parameter], group)
        return loss

    def _move(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if "momentum_buffer" not in state:
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["step"] += 1
        buffer = state["momentum_buffer"]
        # A running mean, not a sum; to an orthogonalised Muon step it makes no difference.
        buffer.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
        flat = ahead.flatten(1)
        scale = shape_scale(group["scale"], *flat.shape)
        size = self._step_size(flat, gradient.flatten(1), state, group)
        weights = parameter.flatten(1)
        change = scale * orthogonalise(flat, group["method"]) + group["weight_decay"] * weights
        parameter.sub_((group["lr"] * size * change).view_as(parameter))

    @abstractmethod
    def _step_size(
        self, momentum: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> torch.Tensor | float:
        """Return what the learning rate is multiplied with: something that broadcasts to the matrix (m, n)."""


class Muon(MatrixOptimizer):
    """Muon (Jordan et al. 2024), as torch.optim.Muon, which computes in bfloat16 on every device."""

    def _step_size(
        self, momentum: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> float:
        return 1.0
