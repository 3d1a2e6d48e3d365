"""A chain of two states, touching or not, that seldom changes: probabilities over time from those of single frames."""

from __future__ import annotations

import numpy as np

from bodydouble.errors import InputError


def persistent(likely: np.ndarray, hold: float) -> np.ndarray:
    """Return probabilities (T, parts) of a state that stays, from the likelihoods (T, parts) of single frames.

    Args:
        likely: Likelihood that a frame touches, against that it does not, each in [0, 1].
        hold: Mean number of frames between changes, at least 1.

    Raises:
        InputError: `hold` is below 1.
    """
    if hold < 1:
        raise InputError(f"contacts that hold for {hold} frames on average cannot be followed; expected at least 1")
    stay = 1.0 - 0.5 / hold
    evidence = np.stack([1.0 - likely, likely], axis=-1).clip(0.02, 0.98)
    moves = np.array([[stay, 1.0 - stay], [1.0 - stay, stay]])
    forward, backward = evidence.copy(), np.ones_like(evidence)
    for now in range(1, len(evidence)):
        forward[now] = (forward[now - 1] / forward[now - 1].sum(axis=-1, keepdims=True)) @ moves * evidence[now]
    for now in range(len(evidence) - 2, -1, -1):
        step = (backward[now + 1] * evidence[now + 1]) @ moves
        backward[now] = step / step.sum(axis=-1, keepdims=True)
    both = forward * backward
    return both[..., 1] / both.sum(axis=-1)
