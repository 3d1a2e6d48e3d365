"""CommandSpec: bounds of what a policy is told."""

from __future__ import annotations

import numpy as np
import pytest

from bodydouble.command import CommandSpec
from bodydouble.errors import InputError

WALK = CommandSpec(("forward", "turn"), (-0.5, -1.0), (1.0, 1.0))


def test_a_command_inside_of_its_bounds_is_float32():
    values = WALK.check([1.0, -1.0])
    assert values.dtype == np.float32 and values.tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.01, 0.0], r"forward is 1\.01, outside of -0\.5 to 1"),
        ([0.0, float("nan")], "turn is nan"),
        ([float("-inf"), 0.0], "forward is -inf"),
        ([0.0], "has 1 values, expected 2: forward, turn"),
    ],
)
def test_others_are_refused(values: list[float], message: str):
    with pytest.raises(InputError, match=message):
        WALK.check(values)


@pytest.mark.parametrize(
    ("low", "high", "names", "message"),
    [
        ((0.0,), (1.0, 1.0), ("a", "b"), "as many bounds"),
        ((0.0, 0.0), (1.0, 1.0), ("a", "a"), "twice"),
        ((1.0,), (0.0,), ("a",), "the lower one first"),
        ((0.0,), (float("inf"),), ("a",), "finite"),
    ],
)
def test_bounds_that_cannot_be_are_refused(low, high, names, message: str):
    with pytest.raises(InputError, match=message):
        CommandSpec(names, low, high)
