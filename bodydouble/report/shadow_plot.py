"""The shadow's picture: what a policy would have commanded, beside what was measured and what was sent."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

JOINTS = 4
"""Joints that are drawn: those that move, or would have moved, the most."""


def shadow_plot(
    t_s: np.ndarray,
    measured: np.ndarray,
    commanded: np.ndarray,
    running: np.ndarray,
    recorded_s: np.ndarray,
    recorded: np.ndarray,
    joint_names: Sequence[str],
    title: str,
) -> bytes:
    """Return the positions of the joints that move most over time, as PNG. T ticks, R recorded commands, J joints.

    Args:
        t_s: Times of the ticks (T,), s.
        measured: Measured positions (T, J), rad.
        commanded: What the policy would have commanded (T, J), rad.
        running: Ticks in which the policy was in charge (T,); the others are shaded.
        recorded_s: Times of the recorded commands (R,), s.
        recorded: Recorded commands (R, J), rad.
        joint_names: Names of the joints.
        title: Title.
    """
    moves = np.maximum(np.ptp(measured, axis=0), np.ptp(commanded, axis=0))
    shown = np.sort(np.argsort(-moves, kind="stable")[:JOINTS])
    figure, axes = plt.subplots(len(shown), 1, figsize=(9, 1.7 * len(shown) + 0.6), sharex=True, squeeze=False)
    for axis, joint in zip(axes[:, 0], shown, strict=True):
        low = min(measured[:, joint].min(), commanded[:, joint].min())
        high = max(measured[:, joint].max(), commanded[:, joint].max())
        axis.fill_between(t_s, low, high, where=~running, color="#eeeeee", step="mid", linewidth=0)
        axis.plot(t_s, measured[:, joint], color="#222", linewidth=1, label="measured")
        if len(recorded):
            axis.plot(recorded_s, recorded[:, joint], color="#d8863b", linewidth=1, label="sent then")
        axis.plot(t_s, commanded[:, joint], color="#3b7dd8", linewidth=1, label="would be commanded")
        axis.set_ylabel(f"{str(joint_names[joint]).removesuffix('_joint')}\nrad", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(loc="upper right", frameon=False, fontsize=8, ncols=3)
    axes[0, 0].set_title(f"{title} (shaded: not in charge)", fontsize=10)
    axes[-1, 0].set_xlabel("time, s")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
