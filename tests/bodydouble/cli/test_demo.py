"""The demo's gates: each bound is held against the measured figure, and an absent figure fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from bodydouble.cli import COMMANDS
from bodydouble.cli.demo import GATES, Gate, _gates, stages

GOOD = {
    "scene_fscore_5cm": 0.95,
    "wmpjpe100_mm": 20.0,
    "clip_s": 14.0,
    "robot_up_s": 20.0,
    "body_error_m": 0.05,
    "replay_diff_bits": 0,
    "onnx_max_abs_diff": 1e-6,
    "wall_s": 300.0,
}
VERIFIED = [{"stage": "verify", "exit": 0}]


def failing(figures: dict[str, float], rows: list[dict[str, object]]) -> list[str]:
    return [str(gate["figure"]) for gate in _gates(figures, rows) if not gate["holds"]]


def test_good_figures_pass() -> None:
    assert failing(GOOD, VERIFIED) == []


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("scene_fscore_5cm", 0.89),
        ("wmpjpe100_mm", 80.1),
        ("clip_s", 9.9),
        ("robot_up_s", 13.9),
        ("body_error_m", 0.121),
        ("replay_diff_bits", 1),
        ("onnx_max_abs_diff", 1.1e-5),
        ("wall_s", 721.0),
    ],
)
def test_each_bound_bites(figure: str, value: float) -> None:
    assert failing({**GOOD, figure: value}, VERIFIED) == [figure]


def test_what_was_not_measured_fails() -> None:
    assert set(failing({}, VERIFIED)) == {gate.figure for gate in GATES} | {"robot_up_s"}


def test_failed_verification_fails() -> None:
    assert failing(GOOD, [{"stage": "verify", "exit": 1}]) == ["verify"]


def test_not_a_number_fails() -> None:
    assert not Gate("x", 1.0, at_least=True).holds(float("nan"))
    assert not Gate("x", 1.0, at_least=False).holds(float("nan"))


def test_chain_is_made_of_commands() -> None:
    assert all(stage.argv[0] in COMMANDS for stage in stages(Path("runs/demo"), 0))
