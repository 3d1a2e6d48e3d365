"""The gate's picture: success rates with their intervals, and why episodes failed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

_CAUSE_COLORS = {
    "far_from_reference": "#d8863b",
    "wrong_height": "#c0504d",
    "tilted": "#8064a2",
    "foot_wrong_height": "#5a9a5f",
    "safety_stop": "#7f7f7f",
    "diverged": "#222222",
}


def gate_plot(tiers: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Return bars of success with 95 % intervals and thresholds, above bars of failed episodes by cause, as PNG.

    Args:
        tiers: Of each tier: name, episodes, success_rate, interval (low, high), bound and failures {cause: count}.
        title: What was judged, and the verdict.
    """
    names = [tier["name"] for tier in tiers]
    at = np.arange(len(tiers))
    rate = np.array([tier["success_rate"] for tier in tiers])
    interval = np.array([tier["interval"] for tier in tiers])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, height_ratios=[3, 2])
    below = np.array([tier["success_rate"] < tier["bound"] for tier in tiers])
    top.bar(at, rate, color=np.where(below, "#d98880", "#3b7dd8"), width=0.6)
    # Rounding may leave an end of an interval on the wrong side of its rate.
    whiskers = np.maximum([rate - interval[:, 0], interval[:, 1] - rate], 0.0)
    top.errorbar(at, rate, yerr=whiskers, fmt="none", ecolor="#222", capsize=5)
    for number, tier in enumerate(tiers):
        if tier["bound"] > 0:
            label = "asked for" if number == 0 else None
            top.hlines(tier["bound"], number - 0.38, number + 0.38, color="#c33", linestyle="--", label=label)
    top.set_ylim(0, 1.05)
    top.set_ylabel("success, 95 % interval")
    if any(tier["bound"] > 0 for tier in tiers):
        top.legend(loc="lower left", frameon=False)
    top.set_title(title, fontsize=10)
    causes = sorted({cause for tier in tiers for cause in tier["failures"]})
    base = np.zeros(len(tiers))
    for cause in causes:
        count = np.array([tier["failures"].get(cause, 0) for tier in tiers], dtype=float)
        color = _CAUSE_COLORS.get(cause, "#bbbbbb")
        bottom.bar(at, count, bottom=base, color=color, width=0.6, label=cause.replace("_", " "))
        base += count
    bottom.set_ylim(0, max(1.0, 1.1 * float(base.max())))
    bottom.set_ylabel("failed episodes")
    bottom.set_xticks(at, [f"{name}\nof {tier['episodes']}" for name, tier in zip(names, tiers, strict=True)])
    if causes:
        bottom.legend(loc="upper left", frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
