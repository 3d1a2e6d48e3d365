"""The replay buffer: what a draw returns, by hand."""

from __future__ import annotations

import pytest
import torch

from bodydouble.errors import InputError
from policy.rl.replay import ReplayBuffer

CPU = torch.device("cpu")


def buffer(steps: int = 8, envs: int = 1) -> ReplayBuffer:
    return ReplayBuffer(steps, envs, {"policy": 1, "critic": 2}, 1, CPU)


def step(number: float, reward: float, terminated: bool = False, truncated: bool = False, envs: int = 1) -> dict:
    """Step `number` acts on observation `number` and leads to `number` + 0.5: never to another step's own."""
    column = torch.full((envs, 1), number) + 100.0 * torch.arange(envs)[:, None]
    return {
        "policy": column, "critic": column.expand(-1, 2) + 0.1, "next_policy": column + 0.5,
        "next_critic": column.expand(-1, 2) + 0.6, "action": -column, "reward": torch.full((envs,), reward),
        "terminated": torch.full((envs,), terminated), "truncated": torch.full((envs,), truncated),
    }  # fmt: skip


def drawn(ring: ReplayBuffer, n_step: int, gamma: float = 0.5) -> dict[float, tuple[float, float, float]]:
    """By observation acted on: reward, discount and the observation reached."""
    batch = ring.sample(600, gamma, n_step)
    rows = zip(batch.policy[:, 0], batch.reward, batch.discount, batch.next_policy[:, 0], strict=True)
    return {round(float(o), 3): (float(r), float(d), float(n)) for o, r, d, n in rows}


def test_one_step_returns() -> None:
    """A failure has no future; a time limit has the value of the observation that was reached."""
    ring = buffer()
    for number, ends in enumerate([{}, {"terminated": True}, {"truncated": True}, {}]):
        ring.add(step(number, 2.0**number, **ends))
    assert drawn(ring, 1) == {
        0.0: (1.0, 0.5, 0.5), 1.0: (2.0, 0.0, 1.5), 2.0: (4.0, 0.5, 2.5), 3.0: (8.0, 0.5, 3.5),
    }  # fmt: skip


def test_three_step_returns_end_with_their_episodes() -> None:
    """Rewards 1, 2, 4, 8, 16, 32 with gamma 1/2; the episode of step 1 ran out of time, that of step 4 failed."""
    ring = buffer()
    for number in range(7):
        ring.add(step(number, 2.0**number, terminated=number == 4, truncated=number == 1))
    found = drawn(ring, 3)
    assert found == {
        0.0: (1.0 + 0.5 * 2.0, 0.25, 1.5),
        1.0: (2.0, 0.5, 1.5),
        2.0: (4.0 + 0.5 * 8.0 + 0.25 * 16.0, 0.0, 4.5),
        3.0: (8.0 + 0.5 * 16.0, 0.0, 4.5),
        4.0: (16.0, 0.0, 4.5),
    }, "a return that would need step 7 is not drawn"


def test_the_oldest_steps_make_room() -> None:
    ring = buffer(steps=4)
    for number in range(6):
        ring.add(step(number, 1.0))
    assert ring.filled == 4 and set(drawn(ring, 1)) == {2.0, 3.0, 4.0, 5.0}
    # A return of two steps goes over the ring's seam, never from the newest step to the oldest.
    assert drawn(ring, 2) == {float(n): (1.5, 0.25, n + 1.5) for n in (2, 3, 4)}


def test_environments_are_kept_apart() -> None:
    ring = buffer(envs=3)
    for number in range(4):
        ring.add(step(number, 1.0, envs=3))
    batch = ring.sample(500, 0.9, 2)
    assert set((batch.policy[:, 0] // 100).tolist()) == {0.0, 1.0, 2.0}
    torch.testing.assert_close(batch.next_policy, batch.policy + 1.5)
    torch.testing.assert_close(batch.next_critic, batch.critic + 1.5)
    torch.testing.assert_close(batch.action, -batch.policy)


def test_every_transition_is_as_likely() -> None:
    torch.manual_seed(0)
    ring = buffer(steps=4, envs=2)
    for number in range(7):
        ring.add(step(number, 1.0, envs=2))
    counts = torch.unique(ring.sample(8000, 0.9).policy, return_counts=True)[1]
    # Eight transitions, 1000 draws each on average, with a standard deviation of 30.
    assert len(counts) == 8 and (counts - 1000).abs().max() < 130


def test_a_snapshot_brings_all_of_it_back() -> None:
    ring, again = buffer(steps=4), buffer(steps=4)
    for number in range(6):
        ring.add(step(number, 1.0))
    again.restore(ring.snapshot())
    for other in (ring, again):
        other.add(step(6, 3.0))
    torch.manual_seed(0)
    first = ring.sample(50, 0.9, 2)
    torch.manual_seed(0)
    second = again.sample(50, 0.9, 2)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))
    with pytest.raises(InputError, match=r"saved replay buffer's policy has shape \(4, 1, 1\), this one's \(2, 1, 1\)"):
        buffer(steps=2).restore(ring.snapshot())


def test_a_return_needs_its_steps() -> None:
    ring = buffer()
    ring.add(step(0, 1.0))
    with pytest.raises(InputError, match="holds 1 steps, a return of 2 needs as many"):
        ring.sample(4, 0.9, 2)


def test_its_size_is_known_before_it_is_filled() -> None:
    # 2 x (1 + 2) observations, 1 action, 1 reward of 4 bytes, 2 flags of 1.
    assert ReplayBuffer.num_bytes(8, 3, {"policy": 1, "critic": 2}, 1) == 8 * 3 * (4 * 8 + 2)
    assert sum(t.numel() * t.element_size() for t in buffer(8, 3)._tensors.values()) == 8 * 3 * (4 * 8 + 2)
