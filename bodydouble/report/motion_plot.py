"""Plots of retargeted motions: what the robot can do over time, and a table of figures over many motions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

_GOOD, _BAD = "#5a9a5f", "#c8553d"


def feasibility_plot(
    torque: np.ndarray,
    speed: np.ndarray,
    residual: np.ndarray,
    seconds: Sequence[Mapping[str, float | str | bool]],
    fps: float,
) -> bytes:
    """Return a PNG: residual, torque and speed over their limits against time, above a verdict per second.

    Args:
        torque: Largest joint torque over its limit (T,).
        speed: Largest joint speed over its limit (T,).
        residual: Force that nothing explains, over the weight (T,).
        seconds: Verdicts with the keys `second` and `feasible`.
        fps: Frames per second.
    """
    times = np.arange(len(torque)) / fps
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 3.4), sharex=True, height_ratios=[5, 1])
    for values, label, color in (
        (torque, "joint torque / limit", "#3b7dd8"),
        (speed, "joint speed / limit", "#8a6fb0"),
        (residual, "unexplained force / weight", "#d8863b"),
    ):
        top.plot(times, np.clip(values, 0, 3), label=label, color=color, linewidth=1)
    top.axhline(1.0, color="#c33", linestyle="--", linewidth=0.8)
    top.set_ylim(0, 3)
    top.legend(loc="upper right", frameon=False, fontsize=8)
    for second in seconds:
        start = float(second["second"])
        bottom.barh(0, 1.0, left=start, align="center", color=_GOOD if second["feasible"] else _BAD, height=1.0)
    bottom.set_yticks([])
    bottom.set_ylim(-0.5, 0.5)
    bottom.set_xlabel("time, s (green: can be done)")
    return _png(figure)


def motions_plot(table: Mapping[str, Mapping[str, float]], panels: Mapping[str, tuple[str, float]]) -> bytes:
    """Return a PNG with one panel per figure and one bar per motion.

    Args:
        table: Figures by motion.
        panels: Name of the figure: its title and the bound that was asked for.
    """
    names = list(table)
    figure, axes = plt.subplots(1, len(panels), figsize=(3.0 * len(panels), 0.24 * len(names) + 1.2), sharey=True)
    rows = np.arange(len(names))
    for axis, (key, (title, bound)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        axis.barh(rows, [table[name].get(key, 0.0) for name in names], color="#3b7dd8", height=0.7)
        axis.axvline(bound, color="#c33", linestyle="--", linewidth=1)
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    first = np.atleast_1d(axes)[0]
    first.set_yticks(rows, names)
    first.invert_yaxis()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
