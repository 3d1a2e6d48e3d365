"""The depth camera's noise: its statistics against the formulas, by hand where they are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from perception.synthetic.noise import add_depth_noise, axial_sigma

STEP_1M = 8 * 0.075 * 570
"""Levels of inverse depth per 1/m."""


def plane(depth: float, size: int = 300) -> np.ndarray:
    return np.full((size, size), depth, dtype=np.float32)


def readings(depth: np.ndarray, seed: int = 0, **options: float) -> np.ndarray:
    return add_depth_noise(depth, np.random.default_rng(seed), **options)


def test_axial_sigma_by_hand():
    """1.2 mm at 0.4 m, and 1.9 mm more per square metre beyond."""
    np.testing.assert_allclose(axial_sigma(np.array([0.4, 1.4, 2.4, 4.4])), [0.0012, 0.0031, 0.0088, 0.0316])


@pytest.mark.parametrize("depth", [0.5, 1.0, 1.7, 2.5, 3.4, 4.2])
def test_mean_and_spread_of_a_plane(depth):
    """Those of a normal error of axial_sigma, taken to the nearest level of disparity and to the millimetre."""
    values = readings(plane(depth)).astype(np.float64)
    levels = np.arange(30, 1200)
    nearest_m, farthest_m = (STEP_1M / (levels + half) for half in (0.5, -0.5))
    sigma = float(axial_sigma(np.array(depth)))
    share = norm.cdf(farthest_m, depth, sigma) - norm.cdf(nearest_m, depth, sigma)
    reading = np.round(1000 * STEP_1M / levels)
    mean = share @ reading
    spread = float(np.sqrt(share @ (reading - mean) ** 2))
    assert share.sum() == pytest.approx(1.0)
    assert values.mean() == pytest.approx(mean, abs=0.015 * spread)
    assert values.std() == pytest.approx(spread, rel=0.01)
    assert spread > 1000 * sigma * 0.95


def test_noise_grows_with_the_square_of_depth():
    """From 1.4 to 4.4 m the part that grows with (z - 0.4)^2 grows 16 times."""
    spread = []
    for depth in (1.4, 4.4):
        values = readings(plane(depth)) / 1000
        axial = values.var() - (depth**2 / STEP_1M) ** 2 / 12
        spread.append(np.sqrt(axial) - 0.0012)
    assert spread[1] / spread[0] == pytest.approx(16, rel=0.12)


@pytest.mark.parametrize("depth", [1.0, 2.0, 4.0])
def test_readings_are_levels_of_disparity(depth):
    """Every reading is 342 / k m for a whole k, to the millimetre; neighbouring levels lie z^2 / 342 apart."""
    values = np.unique(readings(plane(depth)).astype(np.float64))
    level = np.round(STEP_1M * 1000 / values)
    np.testing.assert_allclose(values, np.round(1000 * STEP_1M / level))
    gaps = np.diff(values)
    near = np.abs(values[:-1] - 1000 * depth) < 20 + 60 * (depth > 3)
    np.testing.assert_allclose(gaps[near], 1000 * (values[:-1][near] / 1000) ** 2 / STEP_1M, atol=1.6)


@pytest.mark.parametrize("depth", [np.inf, np.nan, 5.0, 7.0, 0.2, 0.05, 0.0])
def test_no_reading_out_of_range(depth):
    assert not readings(plane(depth, 40)).any()


def test_range_is_an_option_and_readings_inside_stay():
    assert (readings(plane(4.9, 40)) > 0).all()
    assert not readings(plane(4.9, 40), max_range=4.8).any()


def test_readings_are_lost_at_edges_alone():
    """A step of 0.5 m between two columns: 60 % of the readings of these two are lost, and no other."""
    depth = plane(1.5, 400)
    depth[:, 200:] = 2.0
    lost = readings(depth) == 0
    share = lost.mean(axis=0)
    assert share[[199, 200]] == pytest.approx(0.6, abs=0.12)
    assert not np.delete(share, [199, 200]).any()
    rows = readings(depth.T) == 0
    assert rows.mean(axis=1)[[199, 200]] == pytest.approx(0.6, abs=0.12)
    assert not np.delete(rows.mean(axis=1), [199, 200]).any()


def test_a_small_step_is_no_edge_and_the_drop_out_is_an_option():
    depth = plane(1.5, 60)
    depth[:, 30:] += 0.05
    assert (readings(depth) > 0).all()
    assert ((readings(depth, edge=0.04, edge_dropout=1.0) == 0).sum(axis=0) == 60).nonzero()[0].tolist() == [29, 30]


def test_the_border_of_what_is_out_of_range_is_an_edge():
    depth = plane(3.0, 60)
    depth[:, 30:] = np.inf
    values = readings(depth, edge_dropout=1.0)
    assert (values[:, :29] > 0).all() and not values[:, 29:].any()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_any_depth_gives_millimetres(seed):
    """Random depths, infinite ones among them: uint16, the same for the same seed, 0 exactly where out of range."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 7, (20, 20)).astype(np.float32)
    depth[rng.random((20, 20)) < 0.2] = np.inf
    values = readings(depth, seed, edge=100.0)
    assert values.dtype == np.uint16 and values.shape == depth.shape
    np.testing.assert_array_equal(values > 0, (depth > 0.2) & (depth < 5.0))
    np.testing.assert_array_equal(values, readings(depth, seed, edge=100.0))
