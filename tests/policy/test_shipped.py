from __future__ import annotations

import json

import pytest
import torch

from bodydouble.errors import InputError
from policy.checkpoint import load_checkpoint
from policy.shipped import shipped_checkpoint
from policy.train import SHIPPED


@pytest.mark.parametrize(
    ("robot", "kind"), [*(("unitree_g1", kind) for kind in SHIPPED.values()), ("unitree_go1", "velocity")]
)
def test_what_is_shipped_is_sound_small_and_says_how_it_was_made(robot: str, kind: str) -> None:
    path = shipped_checkpoint(robot, kind)
    net, _, _ = load_checkpoint(path)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert path.stat().st_size < 3e6
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["robot"] == robot and card["commands"] and card["measured"] and card["env_steps"] > 1e6
    log = [json.loads(line) for line in path.with_suffix(".log.jsonl").read_text().splitlines()]
    assert len(log) > 10 and all("reward" in row for row in log)


def test_no_checkpoint_is_shipped_for_every_robot() -> None:
    with pytest.raises(InputError, match="no checkpoint is shipped for robot i2rt_yam; train with"):
        shipped_checkpoint("i2rt_yam")
