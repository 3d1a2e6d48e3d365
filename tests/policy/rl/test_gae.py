from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.rl.gae import gae

GAMMA, LAM = 0.5, 0.5
# With these the trace decays by gamma * lam = 0.25 a step.
REWARDS, VALUES, NEXT_VALUES = [1.0, 2.0, 4.0], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def flags(*steps: int) -> torch.Tensor:
    """Flags (3, 1) that hold at the given steps."""
    return torch.tensor([[t in steps] for t in range(3)])


def test_one_episode_by_hand() -> None:
    # delta = r + 0.5 * next - value = 0.5, 1.5, 4.
    # A2 = 4; A1 = 1.5 + 0.25 * 4 = 2.5; A0 = 0.5 + 0.25 * 2.5 = 1.125. Returns are A + value.
    advantages, returns = gae(column(REWARDS), column(VALUES), column(NEXT_VALUES), flags(), flags(), GAMMA, LAM)
    torch.testing.assert_close(advantages, column([1.125, 2.5, 4.0]))
    torch.testing.assert_close(returns, column([2.125, 3.5, 5.0]))


def test_a_failed_episode_has_no_future() -> None:
    # Step 1 fails: its next value (100) counts nothing, delta1 = 2 - 1 = 1, and nothing of step 2 flows back.
    # A2 = 4; A1 = 1; A0 = 0.5 + 0.25 * 1 = 0.75.
    advantages, returns = gae(
        column(REWARDS), column(VALUES), column([1.0, 100.0, 2.0]), flags(1), flags(), GAMMA, LAM
    )  # fmt: skip
    torch.testing.assert_close(advantages, column([0.75, 1.0, 4.0]))
    torch.testing.assert_close(returns, column([1.75, 2.0, 5.0]))


def test_an_episode_that_ran_out_of_time_goes_on_in_its_final_observation() -> None:
    # Step 1 is cut by time. The state it reached is worth 6, not the 1 of the next episode's first state.
    # delta1 = 2 + 0.5 * 6 - 1 = 4; the trace is cut: A1 = 4; A0 = 0.5 + 0.25 * 4 = 1.5; A2 = 4 as before.
    advantages, returns = gae(column(REWARDS), column(VALUES), column([1.0, 6.0, 2.0]), flags(), flags(1), GAMMA, LAM)
    torch.testing.assert_close(advantages, column([1.5, 4.0, 4.0]))
    torch.testing.assert_close(returns, column([2.5, 5.0, 5.0]))


def test_a_failure_in_the_last_moment_is_a_failure() -> None:
    both, _ = gae(column(REWARDS), column(VALUES), column([1.0, 6.0, 2.0]), flags(1), flags(1), GAMMA, LAM)
    failed, _ = gae(column(REWARDS), column(VALUES), column([1.0, 6.0, 2.0]), flags(1), flags(), GAMMA, LAM)
    torch.testing.assert_close(both, failed)


def test_environments_do_not_mix() -> None:
    """Three cases side by side give what each gives alone."""
    terminated = torch.cat([flags(), flags(1), flags()], dim=1)
    truncated = torch.cat([flags(), flags(), flags(1)], dim=1)
    rewards, values, next_values = (column(v).expand(3, 3).clone() for v in (REWARDS, VALUES, NEXT_VALUES))
    next_values[1] = torch.tensor([1.0, 100.0, 6.0])
    advantages, _ = gae(rewards, values, next_values, terminated, truncated, GAMMA, LAM)
    torch.testing.assert_close(advantages, torch.tensor([[1.125, 0.75, 1.5], [2.5, 1.0, 4.0], [4.0, 4.0, 4.0]]))


floats = st.floats(-10, 10, width=32)


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=12), floats, st.floats(0.5, 1.0))
def test_limits_of_lambda(steps: list[tuple[float, float]], last: float, gamma: float) -> None:
    """With lam 1 the return is the discounted sum of rewards; with lam 0 it is the one-step target."""
    rewards, values = column([s[0] for s in steps]), column([s[1] for s in steps])
    next_values = torch.cat([values[1:], torch.tensor([[last]])])
    never = torch.zeros_like(rewards, dtype=torch.bool)
    expected, future = torch.empty_like(rewards), torch.tensor([last])
    for t in reversed(range(len(steps))):
        future = rewards[t] + gamma * future
        expected[t] = future
    _, returns = gae(rewards, values, next_values, never, never, gamma, 1.0)
    torch.testing.assert_close(returns, expected, rtol=1e-4, atol=1e-3)
    _, returns = gae(rewards, values, next_values, never, never, gamma, 0.0)
    torch.testing.assert_close(returns, rewards + gamma * next_values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_nothing_after_an_end_reaches_what_was_before(ends: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = torch.randn(3, 8, 1, generator=generator)
    end = torch.tensor([[t == 4] for t in range(8)])
    never = torch.zeros_like(end)
    flags = (end, never) if ends == "terminated" else (never, end)
    before, _ = gae(rewards, values, next_values, *flags, 0.9, 0.9)
    rewards[5:] += 100.0
    after, _ = gae(rewards, values, next_values, *flags, 0.9, 0.9)
    torch.testing.assert_close(before[:5], after[:5], rtol=0, atol=0)
    assert (before[5:] - after[5:]).abs().max() > 50
