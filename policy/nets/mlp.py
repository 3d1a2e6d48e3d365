"""The multilayer perceptron of all networks here."""

from __future__ import annotations

import itertools
import math

from torch import nn


def mlp(sizes: tuple[int, ...], last_gain: float) -> nn.Sequential:
    """Return a multilayer perceptron with ELU, orthogonal weights and zero biases.

    Args:
        sizes: Sizes from input to output.
        last_gain: Gain of the last layer's weights.
    """
    layers: list[nn.Module] = []
    for index, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(size_in, size_out)
        last = index == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, gain=last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        # In place, its gradient needs no second exponential.
        layers += [linear] if last else [linear, nn.ELU(inplace=True)]
    return nn.Sequential(*layers)
