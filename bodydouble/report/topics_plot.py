"""The picture of any recording: its numbers over time, one panel for each."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

PANELS = 12
"""Most panels; the first of each topic come before the second of any."""


def topics_plot(series: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> bytes:
    """Return the values over time as PNG.

    Args:
        series: Times (n,) in s and values (n,), by name.
        title: Title.
    """
    shown = list(series.items())[:PANELS]
    figure, axes = plt.subplots(len(shown), 1, figsize=(9, 1.3 * len(shown) + 0.6), sharex=True, squeeze=False)
    for axis, (name, (times, values)) in zip(axes[:, 0], shown, strict=True):
        axis.plot(times, values, ".", markersize=2, color="#3b7dd8")
        axis.set_title(name, fontsize=8, loc="left", pad=2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    axes[-1, 0].set_xlabel("time since the first message, s")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
