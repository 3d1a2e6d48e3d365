"""The report: self-contained, escaped, with every figure and gate."""

from __future__ import annotations

import re

import numpy as np

from bodydouble.report.figures import picture_png, timing_plot, tracking_plot
from bodydouble.report.page import Picture, Section, render_page

SUMMARY = {
    "command": "bodydouble demo",
    "seeds": [3],
    "machine": {"cpu": "<cpu>", "cores": 2},
    "versions": {"numpy": "2"},
    "stages": [{"stage": "record", "seconds": 1.0, "figures": {"frames": 3.0}, "file": "runs/x.json"}],
    "gates": [
        {"figure": "wall_s", "bound": 720.0, "sense": "<=", "value": 800.0, "holds": False},
        {"figure": "robot_up_s", "bound": None, "sense": ">=", "value": None, "holds": False},
    ],
    "figures": {"wall_s": 800.0},
}


def test_page_holds_everything_and_asks_for_nothing() -> None:
    picture = Picture(picture_png(np.zeros((4, 4, 3), np.uint8)), "a picture")
    page = render_page(SUMMARY, [Section("room", "Room", "text", [picture])], ["a note & more"])
    assert "a note &amp; more" in page and "&lt;cpu&gt;" in page
    assert "FAIL" in page and "not measured" in page and "a picture" in page
    assert "data:image/png;base64," in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "<script" not in page


def test_plots_are_pictures() -> None:
    t = np.linspace(0, 10, 200)
    skills = ["stand"] * 80 + ["track"] * 120
    plot = tracking_plot(t, 0.03 + 0.01 * np.sin(t), skills, [(1.0, 2.5, "track")], 0.12)
    assert plot.startswith(b"\x89PNG") and plot != tracking_plot(t, 0.03 + 0.01 * np.sin(t), skills, [], 0.12)
    assert timing_plot(np.abs(np.sin(t)), np.abs(np.cos(t)), 20.0).startswith(b"\x89PNG")
