"""Foot plans and the balance of a centre-of-mass path, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sim.retarget.balance import GRAVITY, balance_path, half_planes, project
from sim.retarget.footsteps import Foothold, clean_contacts, find_footholds, min_jerk, plan_feet, runs

SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def test_projection_onto_a_square():
    points = np.array([[0.5, 0.5], [2.0, 0.5], [-1.0, -1.0], [0.3, 1.7]])
    np.testing.assert_allclose(
        project(points, *half_planes(SQUARE)), [[0.5, 0.5], [1, 0.5], [0, 0], [0.3, 1.0]], atol=1e-12
    )


def test_still_path_inside_the_support_is_left_alone():
    com = np.tile([0.5, 0.5, 0.7], (100, 1))
    np.testing.assert_allclose(balance_path(com, [(0, 100, SQUARE)], 50.0), com[:, :2], atol=1e-6)


def test_path_outside_is_brought_to_the_edge_and_its_zmp_stays_inside():
    times = np.arange(200) / 50.0
    com = np.stack([0.5 + 0.8 * np.exp(-(((times - 2) / 0.5) ** 2)), np.full(200, 0.5), np.full(200, 0.7)], 1)
    moved = balance_path(com, [(0, 200, SQUARE)], 50.0)
    acceleration = np.zeros_like(moved)
    acceleration[1:-1] = (moved[2:] - 2 * moved[1:-1] + moved[:-2]) * 50.0**2
    zmp = moved - 0.7 / GRAVITY * acceleration
    assert com[:, 0].max() > 1.25
    assert zmp[:, 0].max() < 1.03
    assert 0.9 < moved[:, 0].max() < 1.03


def test_runs_and_contact_cleaning():
    contact = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1], dtype=bool)
    assert runs(contact)[0] == (0, 3)
    cleaned = clean_contacts(contact, min_contact=2, min_swing=2)
    # The one-frame swing and the one-frame contact are gone.
    assert runs(cleaned) == [(0, 6), (15, 17)]


def test_footholds_are_medians_and_swings_are_smooth():
    frames, fps = 100, 50.0
    contact = np.ones(frames, dtype=bool)
    contact[40:60] = False
    path = np.zeros((frames, 3))
    path[:, 0] = np.where(np.arange(frames) < 50, 0.0, 0.4) + 0.001 * np.sin(np.arange(frames))
    holds = find_footholds(contact, path, np.zeros(frames))
    assert [(hold.start, hold.end) for hold in holds] == [(0, 40), (60, 100)]
    assert holds[1].x == pytest.approx(0.4, abs=1e-3)
    still = [Foothold(0, frames, 0.0, 0.3, 0.1)]
    both, yaw = np.stack([path, path], 1), np.zeros((frames, 2))
    plan = plan_feet((holds, still), both, yaw, np.zeros((frames, 2)), fps, clearance=0.05)
    assert np.abs(np.diff(plan.position[:40, 0], axis=0)).max() == 0.0
    assert plan.position[:, 0, 2].max() == pytest.approx(0.05, abs=0.006)
    # No jump of speed at lift-off and landing.
    speed = np.diff(plan.position[:, 0], axis=0) * fps
    assert np.abs(speed[[39, 59]]).max() < 0.05
    np.testing.assert_array_equal(plan.contact[:, 0], contact)
    assert plan.yaw[50, 1] == 0.1


def test_min_jerk_starts_and_ends_at_rest():
    share = np.linspace(0, 1, 1001)
    course = min_jerk(share)
    assert (course[0], course[500], course[-1]) == (0.0, pytest.approx(0.5), 1.0)
    assert np.gradient(course, share)[[0, -1]] == pytest.approx([0.0, 0.0], abs=1e-4)
