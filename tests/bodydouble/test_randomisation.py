"""Declared randomisation: statistics of the draws, JSON round trip, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import ContractError, InputError
from bodydouble.randomisation import (
    Constant,
    Distribution,
    Integers,
    LogUniform,
    Normal,
    NumpySource,
    Randomisation,
    RandomisedTerm,
    Uniform,
    sample_all,
)

_N = 40_000
_floats = st.floats(-1e6, 1e6)
_positive = st.floats(1e-3, 1e3)
_distributions = st.one_of(
    st.builds(Constant, _floats),
    st.tuples(_floats, _floats).map(lambda p: Uniform(min(p), max(p))),
    st.tuples(_positive, _positive).map(lambda p: LogUniform(min(p), max(p))),
    st.builds(Normal, _floats, _positive),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(lambda p: Integers(min(p), max(p))),
)


def _declared() -> Randomisation:
    return Randomisation((
        RandomisedTerm("friction", "feet", Uniform(0.4, 1.2), "set", "simulation", each=False),
        RandomisedTerm("mass", "all", LogUniform(0.8, 1.25), "scale", "simulation"),
        RandomisedTerm("sensor_noise", "gyro", Normal(0.0, 0.1), "add", "step"),
        RandomisedTerm("action_latency", "all", Integers(0, 4), "set", "episode", each=False),
        RandomisedTerm("push", "base", Uniform(-0.5, 0.5), "add", "interval", interval_s=Uniform(3.0, 6.0)),
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("distribution", "mean", "std"),
    [
        (Constant(0.3), 0.3, 0.0),
        (Uniform(1.0, 3.0), 2.0, 2.0 / 12**0.5),
        # Mean and variance of exp(u), u uniform on [-ln 2, ln 2].
        (LogUniform(0.5, 2.0), 1.5 / (2 * np.log(2)), 0.4209),
        (Normal(-1.0, 0.5), -1.0, 0.5),
        (Integers(0, 4), 2.0, 2.0**0.5),
    ],
)
def test_draws_have_the_declared_mean_and_spread(distribution: Distribution, mean: float, std: float):
    drawn = distribution.sample(NumpySource(0), _N)
    assert drawn.dtype == np.float32 and drawn.shape == (_N,)
    assert drawn.mean() == pytest.approx(mean, abs=0.02)
    assert drawn.std() == pytest.approx(std, abs=0.02)


@given(_distributions, st.integers(0, 2**32 - 1))
def test_draws_stay_in_the_support_and_repeat_with_the_seed(distribution: Distribution, seed: int):
    drawn = distribution.sample(NumpySource(seed), 64)
    low, high = distribution.support
    slack = 1e-5 * max(1.0, abs(low), abs(high))
    assert drawn.min() >= low - slack and drawn.max() <= high + slack
    np.testing.assert_array_equal(drawn, distribution.sample(NumpySource(seed), 64))


@given(_distributions)
def test_a_declaration_comes_back_from_json_bit_for_bit(distribution: Distribution):
    declared = Randomisation((RandomisedTerm("sensor_bias", "joint_pos", distribution, "add", "episode"),))
    assert Randomisation.from_json(declared.to_json()) == declared


def test_each_element_or_all_alike():
    drawn = sample_all(_declared(), seed=3, count=5, sizes={"all": 7, "gyro": 3, "base": 2})
    assert {name: values.shape for name, values in drawn.items()} == {
        "friction feet": (5, 1), "mass all": (5, 7), "sensor_noise gyro": (5, 3), "action_latency all": (5, 1),
        "push base": (5, 2),
    }  # fmt: skip
    assert set(np.unique(drawn["action_latency all"])) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_torch_draws_too():
    torch = pytest.importorskip("torch")

    class Source:
        def random(self, *shape: int):
            return torch.rand(shape, generator=torch.Generator().manual_seed(1))

        def normal(self, *shape: int):
            return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    for term in _declared().terms:
        drawn = term.draw(Source(), 4, 3)
        assert isinstance(drawn, torch.Tensor) and drawn.dtype == torch.float32


def test_terms_are_found_by_name():
    declared = _declared()
    assert declared.term("friction", "feet") is declared.terms[0]
    assert declared.term("friction") is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1.0, 0.0), "lower bound is above"),
        (lambda: Uniform(0.0, float("nan")), "finite"),
        (lambda: LogUniform(0.0, 1.0), "positive"),
        (lambda: Normal(0.0, -1.0), "std >= 0"),
        (lambda: Integers(0, 1.5), "whole numbers"),  # type: ignore[arg-type]
        (lambda: RandomisedTerm("mass", "all", Normal(1.0, 0.5), "scale", "simulation"), "positive numbers only"),
        (lambda: RandomisedTerm("colour", "all", Constant(1), "set", "simulation"), "quantity"),  # type: ignore[arg-type]
        (lambda: RandomisedTerm("action_latency", "all", Uniform(0, 2), "set", "episode"), "whole numbers of steps"),
        (lambda: RandomisedTerm("push", "base", Uniform(-1, 1), "add", "interval"), "interval_s"),
        (lambda: Randomisation(_declared().terms[:1] * 2), "twice"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()


def test_foreign_json_is_refused():
    good = _declared().plain()
    for change, message in (
        ({"quantity": ["mass"]}, "quantity"),
        ({"of": ""}, "'of'"),
        ({"each": 1}, "true or false"),
        ({"distribution": {"kind": "cauchy"}}, "cauchy"),
        ({"distribution": {"kind": "uniform", "low": 0}}, "fields"),
        ({"distribution": {"kind": "uniform", "low": 0, "high": 10**400}}, "finite"),
        ({"distribution": {"kind": "uniform", "low": 0, "high": "1"}}, "finite"),
        ({"interval_s": {"kind": "integers", "low": 1, "high": 2}}, "interval"),
        ({"more": 1}, "fields"),
    ):
        with pytest.raises(ContractError, match=message):
            Randomisation.from_plain([{**good[0], **change}])
    for text in ("{", "[1]", "3", json.dumps(good * 100), "[" * 100_000, " " * (2 << 20)):
        with pytest.raises(ContractError):
            Randomisation.from_json(text)
