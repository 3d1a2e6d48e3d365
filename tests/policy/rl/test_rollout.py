from __future__ import annotations

import torch

from policy.rl.rollout import Rollout


def test_flat_views_keep_steps_and_environments_aligned() -> None:
    """Row t * N + n of every flat tensor is step t of environment n, without a copy."""
    rollout = Rollout(3, 2, {"policy": 1, "critic": 2}, 1, torch.device("cpu"))
    for t in range(3):
        for n in range(2):
            number = 10.0 * t + n
            rollout.obs["policy"][t, n] = rollout.obs["critic"][t, n] = number
            rollout.action[t, n] = rollout.mean[t, n] = number
            rollout.log_prob[t, n] = rollout.value[t, n] = number
            rollout.version[t, n] = int(number)
    flat = rollout.flat()
    assert set(flat) == {"policy", "critic", "action", "mean", "log_prob", "value", "version", "memory", "starts"}
    del flat["memory"], flat["starts"]
    for name, tensor in flat.items():
        assert tensor.reshape(6, -1)[:, 0].tolist() == [0, 1, 10, 11, 20, 21], name
    flat["action"][3] = -1
    assert rollout.action[1, 1] == -1


def test_types_and_shapes() -> None:
    rollout = Rollout(3, 2, {"policy": 4, "critic": 5}, 6, torch.device("cpu"))
    assert rollout.obs["policy"].shape == (3, 2, 4) and rollout.obs["critic"].shape == (3, 2, 5)
    assert rollout.action.shape == rollout.mean.shape == (3, 2, 6)
    assert rollout.reward.shape == rollout.next_value.shape == (3, 2)
    assert rollout.terminated.dtype == rollout.truncated.dtype == torch.bool
    assert rollout.reward.dtype == torch.float32
