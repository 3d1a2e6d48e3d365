from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.gate.wilson import wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3: Wilson's score interval.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand with z = 1.96: 5 of 10 is 0.5 -+ 1.96 / 1.38416 * sqrt(0.025 + 0.009604) = 0.5 -+ 0.2634.
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0000),
    ],
)
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_around_the_rate(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12 and successes / trials - 1e-12 <= high <= 1
    assert high - low > 0
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12), "failures mirror successes"
    narrower = wilson_interval(4 * successes, 4 * trials)
    assert narrower[1] - narrower[0] < high - low
    wider = wilson_interval(successes, trials, z=2.576)
    assert wider[0] <= low + 1e-12 and wider[1] >= high - 1e-12
    assert wider[1] - wider[0] > high - low
