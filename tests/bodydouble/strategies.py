"""Hypothesis strategies shared by the tests of the vocabulary."""

import numpy as np
from hypothesis import strategies as st


def unit_quats(count: int = 8):
    """Arrays (count, 4) of unit quaternions, made from seeds so that failures shrink to small numbers."""

    def make(seed: int) -> np.ndarray:
        quat = np.random.default_rng(seed).normal(size=(count, 4))
        return quat / np.linalg.norm(quat, axis=-1, keepdims=True)

    return st.integers(0, 2**32 - 1).map(make)


def vectors(count: int = 8, size: int = 3):
    """Arrays (count, size) of values of mixed magnitude."""

    def make(args: tuple[int, float]) -> np.ndarray:
        seed, scale = args
        return np.random.default_rng(seed).normal(size=(count, size)) * scale

    return st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 50.0])).map(make)
