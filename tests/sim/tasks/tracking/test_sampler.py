from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim.tasks.tracking.config import ResetConfig
from sim.tasks.tracking.motion_bank import MotionBank
from sim.tasks.tracking.sampler import StartSampler
from tests.sim.tasks.tracking.samples import point_backend, toy_motion

DRAWS = 40_000
ANYWHERE = ResetConfig(start_share=0.0, adaptive_share=0.0)
LENGTHS = np.array([10, 10, 5, 10, 2])
"""Frames of the five bins: clip 0 has 25 frames, clip 1 has 12, at 10 Hz."""


def sampler(config: ResetConfig, seed: int = 0) -> tuple[StartSampler, MotionBank]:
    backend = point_backend(seed=seed)
    bank = MotionBank([toy_motion(25), toy_motion(12)], backend, 10.0)
    return StartSampler(bank, backend, config), bank


def fail(part: StartSampler, clip: int, frame: int, times: int = 1) -> None:
    part.record(np.full(times, clip), np.full(times, frame), np.ones(times, bool))


def bin_shares(part: StartSampler, bank: MotionBank) -> np.ndarray:
    clip, frame = part.draw(DRAWS)
    return np.bincount(bank.bin_of_frame[bank.index(clip, frame)], minlength=5) / DRAWS


def assert_shares(found: np.ndarray, expected) -> None:
    """Within four standard deviations of a share counted over the draws; what cannot happen did not."""
    expected = np.asarray(expected, dtype=float)
    bound = 4 * np.sqrt(expected * (1 - expected) / DRAWS)
    assert (np.abs(found - expected) <= bound).all(), (found, expected)


def test_uniform_over_the_frames() -> None:
    """Without failures and adaptation, each of the 37 frames is as likely as the others."""
    part, bank = sampler(ANYWHERE)
    clip, frame = part.draw(DRAWS)
    assert ((frame >= 0) & (frame < np.where(clip == 0, 25, 12))).all()
    counts = np.bincount(bank.index(clip, frame), minlength=37) / DRAWS
    assert_shares(counts, np.full(37, 1 / 37))


def test_without_failures_adaptation_changes_nothing() -> None:
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0))
    assert_shares(bin_shares(part, bank), LENGTHS / 37)


def test_failures_draw_starts_to_their_second_and_the_one_before() -> None:
    """One failure in second 2 of clip 0: half of the starts in that second, half in the one before."""
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0))
    fail(part, 0, 22)
    assert_shares(bin_shares(part, bank), [0, 0.5, 0.5, 0, 0])


def test_blame_does_not_cross_into_another_clip() -> None:
    """The first second of clip 1 has none before it."""
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0))
    fail(part, 1, 0)
    assert_shares(bin_shares(part, bank), [0, 0, 0, 1, 0])


def test_failures_weigh_by_their_number_and_mix_with_the_uniform_share() -> None:
    # 3 failures in bin 1, 1 in bin 4. Blame: bins 0 and 1 get 3 each, bins 3 and 4 get 1 each, of 8.
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=0.25, adaptive_rate=0.0))
    fail(part, 0, 15, times=3)
    fail(part, 1, 11)
    expected = 0.75 * LENGTHS / 37 + 0.25 * np.array([3, 3, 0, 1, 1]) / 8
    assert_shares(bin_shares(part, bank), expected)


def test_old_failures_are_forgotten_at_the_rate() -> None:
    # At a rate of 0.5, a failure two records old counts a quarter of a new one.
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0, adaptive_rate=0.5))
    fail(part, 0, 0, times=4)
    part.record(np.array([0]), np.array([0]), np.array([False]))
    fail(part, 1, 3)
    # 4 * 0.25 = 1 against 1; neither has a second before it.
    assert_shares(bin_shares(part, bank), [0.5, 0, 0, 0.5, 0])


def test_only_failures_count() -> None:
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0))
    part.record(np.array([0, 0, 1]), np.array([1, 22, 3]), np.array([False, False, True]))
    assert_shares(bin_shares(part, bank), [0, 0, 0, 1, 0])


def test_a_failure_after_the_end_counts_for_the_last_second() -> None:
    part, bank = sampler(dataclasses.replace(ANYWHERE, adaptive_share=1.0))
    fail(part, 1, 300)
    assert_shares(bin_shares(part, bank), [0, 0, 0, 0.5, 0.5])


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_share_of_starts_at_the_first_frame(share: float) -> None:
    part, _ = sampler(dataclasses.replace(ANYWHERE, start_share=share))
    clip, frame = part.draw(DRAWS)
    # Two of the 37 frames are first frames anyway.
    assert_shares(np.array([(frame == 0).mean()]), [share + (1 - share) * 2 / 37])
    assert_shares(np.array([(clip == 0).mean()]), [25 / 37])


def test_the_seed_decides_the_draws() -> None:
    first, second, other = (sampler(ResetConfig(), seed)[0].draw(50) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(first) != np.asarray(other)).any()
