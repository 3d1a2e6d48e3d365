"""Figures: plots of the report as PNG bytes, and the measured numbers that several benchmarks keep in one file."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from bodydouble.artifacts import machine_info, read_json, versions, write_json
from bodydouble.errors import InputError

_COLORS = {"stand": "#b0b7c3", "track": "#3b7dd8", "stop": "#d8863b"}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def tracking_plot(
    t_s: np.ndarray,
    error_m: np.ndarray,
    skills: Sequence[str],
    decisions: Sequence[tuple[float, float, str]],
    bound_m: float,
) -> bytes:
    """Return the tracking error over time above the skills and the orchestrator's decisions.

    Args:
        t_s: Times (T,), s.
        error_m: Body error (T,), m.
        skills: Skill in force at each time.
        decisions: Start in s, length of the rehearsals in s, and the skill that was chosen.
        bound_m: Bound on the mean error, m.
    """
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 3.6), sharex=True, height_ratios=[4, 1])
    top.plot(t_s, 100 * error_m, color="#222", linewidth=1)
    top.axhline(
        100 * bound_m, color="#c33", linestyle="--", linewidth=1, label=f"bound on the mean, {100 * bound_m:g} cm"
    )
    top.set_ylabel("body error, cm")
    top.set_ylim(0, max(110 * bound_m, 105 * float(error_m.max())))
    top.legend(loc="upper right", frameon=False)
    names = np.asarray(skills)
    edges = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1, [len(names)]])
    for start, end in itertools.pairwise(edges):
        left, right = t_s[start], t_s[min(end, len(t_s) - 1)]
        bottom.barh(0, right - left, left=left, color=_COLORS.get(str(names[start]), "#999"), height=0.8)
        bottom.text(0.5 * (left + right), 0, str(names[start]), ha="center", va="center", fontsize=9)
    for time, wall_s, skill in decisions:
        bottom.barh(1, wall_s, left=time, color="#5a9a5f", height=0.8)
        bottom.text(time + 0.5 * wall_s, 1, f"rehearses, chooses {skill}", ha="center", va="center", fontsize=8)
    bottom.set_yticks([0, 1], ["skill", "planner"])
    bottom.set_ylim(-0.5, 1.5)
    bottom.set_xlabel("time since the release, s")
    return _png(figure)


def timing_plot(tick_ms: np.ndarray, late_ms: np.ndarray, period_ms: float) -> bytes:
    """Return histograms of the ticks' duration and lateness (T,), ms."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
    for axis, values, label in (
        (axes[0], tick_ms, "inputs to command, ms"),
        (axes[1], late_ms, "start after deadline, ms"),
    ):
        axis.hist(np.clip(values, 0, np.percentile(values, 99.8)), bins=60, color="#3b7dd8")
        axis.set_yscale("log")
        axis.set_xlabel(label)
        p50, p99 = np.percentile(values, [50, 99])
        axis.set_title(f"p50 {p50:.2f}, p99 {p99:.2f}, max {values.max():.2f} of {period_ms:g} ms", fontsize=9)
    axes[0].set_ylabel("ticks")
    return _png(figure)


def bar_plot(values: Mapping[str, float], title: str, highlighted: Iterable[str] = ()) -> bytes:
    """Return horizontal bars of named values, the highlighted names in another colour, each with its number."""
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(values) + 0.7))
    names, ours = list(values), set(highlighted)
    colors = ["#3b7dd8" if name in ours else "#b0b7c3" for name in names]
    bars = axis.barh(names, [values[name] for name in names], color=colors)
    axis.bar_label(bars, labels=[f"{values[name]:,.0f}" for name in names], padding=4, fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, fontsize=10)
    return _png(figure)


def picture_png(image: np.ndarray) -> bytes:
    """Return a picture (H, W, 3), uint8, as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def merge_figures(
    path: Path,
    part: str,
    command: str,
    figures: Mapping[str, float],
    *,
    seeds: Iterable[int] = (),
    versions_too: Mapping[str, str] | None = None,
    **details: Any,
) -> dict[str, Any]:
    """Write what one benchmark measured into a results file, beside what others measured before.

    Args:
        path: The JSON file, e.g. benchmarks/results/sim.json.
        part: Name of this benchmark in the file; what it wrote before is replaced as a whole.
        command: What was typed.
        figures: The numbers by name; `figures` of the file holds those of all parts.
        seeds: Seeds that were used.
        versions_too: Versions of packages beside the usual ones.
        details: Anything else to keep with the part: notes, tables.

    Returns:
        The results as written.

    Raises:
        InputError: The file is no JSON, or another part has a figure of the same name.
    """
    parts: dict[str, Any] = read_json(path).get("parts", {}) if path.is_file() else {}
    others = {name: owner for owner, found in parts.items() if owner != part for name in found["figures"]}
    taken = sorted(set(others) & set(figures))
    if taken:
        raise InputError(f"{path}: figure {taken[0]!r} is that of part {others[taken[0]]!r}; give it another name")
    parts[part] = {
        **details,
        "command": command,
        "figures": dict(figures),
        "machine": machine_info(),
        "seeds": sorted(seeds),
        "versions": versions() | dict(versions_too or {}),
    }
    results = {
        "command": " && ".join(parts[name]["command"] for name in sorted(parts)),
        "figures": {name: value for found in parts.values() for name, value in found["figures"].items()},
        "machine": parts[part]["machine"],
        "parts": parts,
        "seeds": sorted({seed for found in parts.values() for seed in found["seeds"]}),
        "versions": {name: value for found in parts.values() for name, value in found["versions"].items()},
    }
    write_json(path, results)
    return results
