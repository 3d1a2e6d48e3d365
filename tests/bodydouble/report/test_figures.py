"""Results files that several benchmarks write."""

from __future__ import annotations

from pathlib import Path

import pytest

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError
from bodydouble.report.figures import bar_plot, merge_figures


def test_each_part_keeps_what_the_others_measured(tmp_path: Path) -> None:
    path = tmp_path / "sim.json"
    merge_figures(path, "speed", "python -m speed", {"old": 1.0, "fast": 2.0}, seeds=[3], notes="a note")
    merge_figures(path, "standing", "python -m standing", {"stand_s_min": 9.0}, seeds=[1, 3])
    merge_figures(path, "speed", "python -m speed --more", {"fast": 3.0}, seeds=[0], versions_too={"peer": "1.0"})
    found = read_json(path)
    assert found["figures"] == {"fast": 3.0, "stand_s_min": 9.0}, "a part's figures of before are replaced"
    assert found["command"] == "python -m speed --more && python -m standing"
    assert found["seeds"] == [0, 1, 3] and found["versions"]["peer"] == "1.0"
    assert "notes" not in found["parts"]["speed"] and found["parts"]["standing"]["figures"] == {"stand_s_min": 9.0}


def test_two_parts_cannot_measure_one_figure(tmp_path: Path) -> None:
    path = tmp_path / "sim.json"
    merge_figures(path, "one", "python -m one", {"x": 1.0})
    with pytest.raises(InputError, match="figure 'x' is that of part 'one'"):
        merge_figures(path, "two", "python -m two", {"x": 2.0})
    assert read_json(path)["figures"] == {"x": 1.0}


def test_bars_are_a_picture() -> None:
    plot = bar_plot({"ours": 3.0, "theirs": 2.0}, "steps per second", ["ours"])
    assert plot.startswith(b"\x89PNG") and plot != bar_plot({"ours": 3.0, "theirs": 2.0}, "steps per second")
