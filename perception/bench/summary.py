"""From the benchmark's tables to its figures: means over the clips, the worst clip, and what is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perception.bench.run import Table

PAPER_MM = {"dual": 72.9, "single": 218.2}
"""W-MPJPE at chunk 100 of EmbodMocap's own dual and best single view, mm, on its optical ground truth."""


@dataclass(frozen=True)
class Figure:
    """A figure of the benchmark."""

    name: str
    """Its name in the JSON file."""
    source: str
    """The measure it is made of."""
    variant: str
    """The variant it is made of."""
    bound: float | None
    """What is asked for; None where nothing is."""
    at_least: bool = False
    """Whether the figure must be at least the bound; otherwise at most."""

    def holds(self, value: float) -> bool:
        """Return whether a value is as asked for."""
        if self.bound is None:
            return True
        return value >= self.bound if self.at_least else value <= self.bound


CLIP_FIGURES = (
    Figure("ate_m", "ate_m", "dual", 0.02),
    Figure("sync_error_ms", "sync_error_ms", "dual", 10.0),
    Figure("scene_fscore_5cm", "scene_fscore_5cm", "dual", 0.93, True),
    Figure("wmpjpe100_dual_mm", "wmpjpe100_mm", "dual", 45.0),
    Figure("wmpjpe100_single_mm", "wmpjpe100_mm", "single", None),
    Figure("root_error_mm", "root_error_mm", "dual", 50.0),
    Figure("contact_f1", "contact_f1", "dual", 0.85, True),
    Figure("foot_skate_cm_s", "foot_slip_cm_s", "dual", 1.0),
    Figure("wmpjpe100_calibrated_mm", "wmpjpe100_mm", "dual_calibrated", None),
)
"""Figures that are means over the clips."""
OTHER_FIGURES = (
    Figure("dual_over_single", "", "", 0.5),
    Figure("reconstruct_fps", "", "", 3.0, True),
    Figure("reconstruct_frames_per_s", "", "", None),
    Figure("clips_peak_rss_gb", "", "", None),
    Figure("peak_rss_gb", "", "", 6.0),
    Figure("kitchen_ate_m", "", "", 0.05),
    Figure("fusion_fps", "", "", 30.0, True),
    Figure("person_joint_median_mm", "", "", 80.0),
)
"""Figures that are not."""
STAGES = ("read", "track", "place", "scene", "segment", "fit", "parts")
"""Stages of a reconstruction whose frames per second are printed."""


@dataclass(frozen=True)
class Summary:
    """What the tables say."""

    figures: dict[str, float]
    """Figures by name; one that some clip lacks is the mean of the others, see `lacking`."""
    worst: dict[str, dict[str, float | str]]
    """The worst clip of each figure and its value."""
    lacking: dict[str, list[str]]
    """Clips without a figure, where there are any."""
    stage_fps: dict[str, float]
    """Time steps per second of each stage, both cameras, poses and clocks unknown."""


def summarise(table: Table) -> Summary:
    """Return means and worst clips of the synthetic tables."""
    figures: dict[str, float] = {}
    worst: dict[str, dict[str, float | str]] = {}
    lacking: dict[str, list[str]] = {}
    for figure in CLIP_FIGURES:
        values = {
            clip: variants[figure.variant][figure.source]
            for clip, variants in table.items()
            if math.isfinite(variants.get(figure.variant, {}).get(figure.source, math.nan))
        }
        if missing := [clip for clip in table if clip not in values]:
            lacking[figure.name] = missing
        if not values:
            continue
        figures[figure.name] = float(np.mean(list(values.values())))
        clip = (min if figure.at_least else max)(values, key=lambda clip: values[clip])
        worst[figure.name] = {"clip": clip, "value": values[clip]}
    if "wmpjpe100_dual_mm" in figures and "wmpjpe100_single_mm" in figures:
        figures["dual_over_single"] = figures["wmpjpe100_dual_mm"] / figures["wmpjpe100_single_mm"]
    dual = [variants["dual"] for variants in table.values() if "dual" in variants]
    stage_fps: dict[str, float] = {}
    if dual:
        steps = sum(found["frames_per_s"] * found["seconds"] for found in dual)
        seconds = sum(found["seconds"] for found in dual)
        figures["reconstruct_fps"] = steps / seconds
        figures["reconstruct_frames_per_s"] = (
            sum(found["cameras"] * found["frames_per_s"] * found["seconds"] for found in dual) / seconds
        )
        for stage in STAGES:
            spent = sum(found.get(f"{stage}_s", 0.0) for found in dual)
            if spent > 0:
                stage_fps[stage] = steps / spent
    peaks = [found["peak_rss_gb"] for variants in table.values() for found in variants.values()]
    if peaks:
        figures["clips_peak_rss_gb"] = max(peaks)
    return Summary(figures, worst, lacking, stage_fps)
