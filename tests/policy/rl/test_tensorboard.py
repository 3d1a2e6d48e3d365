from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy.rl.runner import Progress
from policy.rl.tensorboard import Curves


def progress(update: int) -> Progress:
    return Progress(update, 100 * update, 0.5 * update, {"reward": 0.25 * update, "kl": 0.01})


def read(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_every_figure_of_every_update_is_there(tmp_path: Path) -> None:
    with Curves(tmp_path / "curves", True, 0) as curves:
        for update in (1, 2, 3):
            curves.add(progress(update))
    assert read(tmp_path / "curves", "reward") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert read(tmp_path / "curves", "env_steps") == [(1, 100.0), (2, 200.0), (3, 300.0)]
    assert [value for _, value in read(tmp_path / "curves", "kl")] == pytest.approx([0.01] * 3)


def test_a_resumed_training_shows_no_update_twice(tmp_path: Path) -> None:
    """Three updates, of which the checkpoint knows two; the third is trained again."""
    with Curves(tmp_path / "curves", True, 0) as curves:
        for update in (1, 2, 3):
            curves.add(progress(update))
    with Curves(tmp_path / "curves", True, 2) as curves:
        for update in (3, 4):
            curves.add(progress(update))
    assert read(tmp_path / "curves", "reward") == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]


def test_unwanted_nothing_is_written(tmp_path: Path) -> None:
    with Curves(tmp_path / "curves", False, 0) as curves:
        curves.add(progress(1))
    assert not (tmp_path / "curves").exists()
