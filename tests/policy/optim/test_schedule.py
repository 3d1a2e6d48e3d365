from __future__ import annotations

import pytest
import torch
from torch import nn

from bodydouble.errors import InputError
from policy.optim.registry import MuonConfig
from policy.optim.schedule import ScheduleConfig, set_lr


def test_constant_stays() -> None:
    assert [ScheduleConfig().factor(step) for step in (0, 1, 10**6)] == [1.0] * 3


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        # Warm-up over 2 steps, then 8 steps down to 0.2: a quarter of the way is step 4, half of it step 6.
        ("linear", {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.8, 6: 0.6, 10: 0.2, 99: 0.2}),
        # cos(pi / 4) = 0.7071: 0.2 + 0.8 * 0.5 * 1.7071 = 0.88284.
        ("cosine", {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.8828427, 6: 0.6, 10: 0.2, 99: 0.2}),
        ("constant", {0: 0.5, 1: 1.0, 2: 1.0, 99: 1.0}),
    ],
)
def test_courses_by_hand(kind, factors: dict[int, float]) -> None:
    schedule = ScheduleConfig(kind, warmup=2, total=10, final=0.2)
    assert {step: schedule.factor(step) for step in factors} == pytest.approx(factors)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cosine"}, "a cosine schedule needs total > warmup, they are 0 and 0"),
        ({"kind": "linear", "warmup": 5, "total": 5}, "needs total > warmup"),
        ({"warmup": -1}, "warmup -1"),
        ({"final": 1.5}, "final 1.5"),
    ],
)
def test_settings_that_make_no_schedule_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScheduleConfig(**settings)


def test_groups_keep_their_ratio() -> None:
    optimizer = MuonConfig(lr=0.1, others_lr_ratio=0.5).build(nn.Linear(3, 2).parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]
    set_lr(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]
    plain = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=1.0)
    set_lr(plain, 0.3)
    assert plain.param_groups[0]["lr"] == 0.3
