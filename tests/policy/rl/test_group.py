from __future__ import annotations

import torch

from policy.rl.group import episodes, group_advantages


def flags(*rows: str) -> torch.Tensor:
    """Flags (T, N) from one string per environment: "x" where they hold."""
    return torch.tensor([[c == "x" for c in row] for row in rows]).T


def test_sequences_end_where_episodes_end() -> None:
    sequence = episodes(flags("..x.x.", "......", "x....x"))
    columns = sequence.T.tolist()
    assert columns[0] == [0, 0, 0, 1, 1, 2]
    assert columns[1] == [3] * 6
    assert columns[2] == [4, 5, 5, 5, 5, 5]


def test_advantages_by_hand() -> None:
    # Two environments, whole episodes of two and three steps. Discount 0.5.
    #   Environment 0: 1 + 0.5 * 2 = 2, then 4 + 0.5 * 0 + 0.25 * 4 = 5. Environment 1: (0, 2): 1, then (8, 0, 0): 8.
    #   Mean of 2, 5, 1, 8: 4; deviations -2, 1, -3, 4; variance (4 + 1 + 9 + 16) / 4 = 7.5.
    rewards = torch.tensor([[1.0, 2.0, 4.0, 0.0, 4.0], [0.0, 2.0, 8.0, 0.0, 0.0]]).T
    done, starts = flags(".x..x", ".x..x"), flags("x.x..", "x.x..")
    advantage, whole = group_advantages(rewards, starts, done, None, gamma=0.5)
    root = 7.5**0.5
    expected = torch.tensor([[-2, -2, 1, 1, 1], [-3, -3, 4, 4, 4]]).T / root
    torch.testing.assert_close(advantage, expected)
    assert whole.all()


def test_parts_of_episodes_count_nothing() -> None:
    """What began before the rollout or ends after it has no return: no advantage, and no say in the mean."""
    rewards = torch.tensor([[100.0, 1.0, 100.0], [3.0, 5.0, 100.0]]).T
    # Environment 0: an episode that began before, a whole one of one step, one that goes on. Environment 1: a whole
    # one of two steps, one that goes on.
    done, starts = flags("xx.", ".x."), flags(".xx", "x.x")
    advantage, whole = group_advantages(rewards, starts, done, None, gamma=1.0)
    # Returns 1 and 8: mean 4.5, deviation 3.5.
    torch.testing.assert_close(advantage, torch.tensor([[0.0, -1.0, 0.0], [1.0, 1.0, 0.0]]).T)
    assert whole.T.tolist() == [[False, True, False], [True, True, False]]


def test_groups_are_compared_within() -> None:
    rewards = torch.tensor([[1.0, 3.0, 100.0, 300.0]])
    one = torch.ones(1, 4, dtype=torch.bool)
    advantage, _ = group_advantages(rewards, one, one, torch.tensor([0, 0, 1, 1]), gamma=1.0)
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 1.0, -1.0, 1.0]]))


def test_a_group_of_equals_has_no_advantage() -> None:
    rewards = torch.full((1, 3), 7.0)
    one = torch.ones(1, 3, dtype=torch.bool)
    advantage, _ = group_advantages(rewards, one, one, None, gamma=1.0)
    assert torch.equal(advantage, torch.zeros(1, 3))


def test_no_whole_episode_gives_zeros() -> None:
    advantage, whole = group_advantages(
        torch.ones(4, 2), torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.bool), None, gamma=1.0
    )
    assert not whole.any() and torch.equal(advantage, torch.zeros(4, 2))
