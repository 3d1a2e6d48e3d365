"""The benchmark's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception.bench.report import in_order
from perception.bench.summary import PAPER_MM

_COLOURS = {"single": "#b0603c", "dual": "#2f5d8a", "dual_calibrated": "#8fb3d1"}
_PANELS = (
    ("wmpjpe100_mm", "W-MPJPE, chunk 100 (mm)", 45.0),
    ("root_error_mm", "root error (mm)", 50.0),
    ("contact_f1", "contact F1", 0.85),
    ("ate_m", "camera ATE (m)", 0.02),
)
"""Measure, title, what is asked of `dual`."""


def write_picture(results: dict[str, Any], path: Path) -> None:
    """Draw four measures of every clip and variant, with what is asked of two cameras as a line.

    Args:
        results: The results.
        path: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    clips = in_order(results)
    names = list(clips)
    figure, axes = plt.subplots(2, 2, figsize=(11, 6.2), dpi=90)
    for axis, (measure, title, bound) in zip(axes.flat, _PANELS, strict=True):
        for index, (variant, colour) in enumerate(_COLOURS.items()):
            heights = [clips[clip].get(variant, {}).get(measure, np.nan) for clip in names]
            axis.bar(np.arange(len(names)) + 0.27 * (index - 1), heights, 0.25, color=colour, label=variant)
        axis.axhline(bound, color="black", linewidth=0.8, linestyle="--")
        axis.set_title(title, fontsize=10)
        axis.set_xticks(np.arange(len(names)), names, fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
    # A single measure may be far beyond the others.
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylim(top=350)
    axes[0, 0].yaxis.set_major_locator(FixedLocator([5, 10, 20, 50, 100, 200]))
    axes[0, 0].yaxis.set_major_formatter(ScalarFormatter())
    axes[0, 0].yaxis.set_minor_locator(NullLocator())
    for value, name in ((PAPER_MM["dual"], "dual"), (PAPER_MM["single"], "single")):
        axes[0, 0].axhline(value, color="grey", linewidth=0.8, linestyle=":")
        axes[0, 0].text(len(names) - 0.5, value, f"paper {name}*", fontsize=7, ha="right", va="bottom", color="grey")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.text(
        0.01,
        0.005,
        "dashed: asked of dual.  * EmbodMocap's own figures, on other data (optical ground truth).",
        fontsize=8,
    )
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
