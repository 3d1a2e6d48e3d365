"""Several optimizers, each with its own parameters, behind the interface of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch


def route(params: Iterable[torch.nn.Parameter]) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Return the matrices and the rest: biases, gains, and matrices of one row or one column.

    A matrix of one row has no directions to balance; orthogonalised it would move by its gradient's direction alone.
    """
    matrices, others = [], []
    for parameter in params:
        rows = parameter.shape[0] if parameter.ndim else 1
        (matrices if parameter.ndim >= 2 and rows > 1 and parameter.numel() > rows else others).append(parameter)
    return matrices, others


class Combined(torch.optim.Optimizer):
    """Steps its parts together. State, groups and state dict are those of one optimizer over all parameters."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Take optimizers of disjoint parameters."""
        groups = [{**group, "part": index} for index, part in enumerate(parts) for group in part.param_groups]
        self._parts = list(parts)
        super().__init__(groups, {})
        self._link()

    def _link(self) -> None:
        # The parts work on this optimizer's own state and groups, so that a changed learning rate reaches them.
        for index, part in enumerate(self._parts):
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["part"] == index]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as any optimizer does."""
        super().load_state_dict(state_dict)
        self._link()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
