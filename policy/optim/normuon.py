"""NorMuon (arXiv 2510.05491) of the package pytorch-optimizer, with this project's orthogonalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_optimizer
import torch

from policy.optim.orthogonal import Method, orthogonalise


class NorMuon(pytorch_optimizer.NorMuon):
    """Muon whose rows (neurons) all move alike: each is divided by the running root mean square of its own steps.

    The step's root mean square is 0.2 times the learning rate, as AdamW's typically is (algorithm 1 of the paper). The
    package computes in bfloat16 on every device; here a CPU computes in float32.
    """

    def __init__(
        self,
        params: Sequence[torch.nn.Parameter],
        lr: float,
        momentum: float,
        second_momentum: float,
        nesterov: bool,
        weight_decay: float,
        method: Method,
    ) -> None:
        """Take matrices.

        Args:
            params: Parameters of two or more dimensions.
            lr: Learning rate.
            momentum: Decay of the gradient's running mean.
            second_momentum: Decay of the running mean of the rows' squared steps.
            nesterov: Whether to look one step ahead.
            weight_decay: Decay of the weights per step, in units of the learning rate.
            method: How to orthogonalise.
        """
        group = {"params": list(params), "use_muon": True, "method": method}
        super().__init__(
            [group], lr=lr, momentum=momentum, beta2=second_momentum, nesterov=nesterov, weight_decay=weight_decay,
            update_scale="match_rms", foreach=True,
        )  # fmt: skip

    @staticmethod
    def _orthogonalize(group: dict[str, Any], updates: list[torch.Tensor]) -> list[torch.Tensor]:
        return [orthogonalise(update.flatten(1), group["method"]) for update in updates]
