"""The benchmark's results: one JSON that its parts write together, a table in the terminal, a picture, a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from bodydouble.artifacts import machine_info, read_json, versions, write_json
from perception.bench.clips import CLIPS
from perception.bench.run import Table
from perception.bench.summary import CLIP_FIGURES, OTHER_FIGURES, PAPER_MM, STAGES, summarise
from perception.bench.variants import VARIANTS

COLUMNS = (
    ("wmpjpe100_mm", "W 100 mm", "{:.1f}"),
    ("wampjpe100_mm", "WA 100 mm", "{:.1f}"),
    ("wmpjpe500_mm", "W 500 mm", "{:.1f}"),
    ("wampjpe500_mm", "WA 500 mm", "{:.1f}"),
    ("root_error_mm", "root mm", "{:.1f}"),
    ("rte_percent", "RTE %", "{:.2f}"),
    ("jitter_m_s3", "jitter m/s3", "{:.1f}"),
    ("foot_slip_cm_s", "skate cm/s", "{:.2f}"),
    ("contact_f1", "contact F1", "{:.3f}"),
    ("ate_m", "ATE m", "{:.4f}"),
    ("sync_error_ms", "sync ms", "{:.1f}"),
    ("scene_accuracy_median_mm", "acc mm", "{:.1f}"),
    ("scene_completeness_median_mm", "compl mm", "{:.1f}"),
    ("scene_fscore_5cm", "F-score", "{:.3f}"),
    ("frames_per_s", "steps/s", "{:.2f}"),
    ("peak_rss_gb", "RSS GB", "{:.2f}"),
)
"""Measures in the table: name, title, format."""
OTHER_RESULTS = {"fusion": ("fusion_fps",), "person_depth": ("person_joint_median_mm", "person_body_share")}
"""Results of other benchmarks, and the figures that are taken from them."""
CAPTION = (
    f"EmbodMocap's own W-MPJPE at chunk 100: dual {PAPER_MM['dual']} mm, single {PAPER_MM['single']} mm. "
    "The data differ: synthetic truth here, optical ground truth there."
)
"""What is said below the tables."""


def merge_results(
    path: Path,
    command: str,
    *,
    seeds: Iterable[int] = (),
    table: Table | None = None,
    failed: dict[str, str] | None = None,
    **parts: Any,
) -> dict[str, Any]:
    """Write what was measured now into the results, beside what other parts of the benchmark measured before.

    Args:
        path: The JSON file.
        command: What was typed.
        seeds: Seeds of the clips.
        table: Figures by clip, variant and name; replaces all clips of before.
        failed: What went wrong, by "clip variant".
        parts: Other parts by name, each with `figures` and the `command`.

    Returns:
        The results.
    """
    results: dict[str, Any] = read_json(path) if path.is_file() else {}
    if table is not None:
        results |= {"clips": table, "failed": failed or {}, "seeds": sorted(seeds), "command": command}
    results.setdefault("command", command)
    results.setdefault("seeds", [])
    results["parts"] = results.get("parts", {}) | parts | _others(path.parent)
    summary = summarise(results.get("clips", {}))
    figures = dict(summary.figures)
    for part in results["parts"].values():
        figures |= part["figures"]
    results |= {
        "figures": {name: round(value, 5) for name, value in figures.items()},
        "worst": summary.worst,
        "lacking": summary.lacking,
        "stage_fps": summary.stage_fps,
        "paper_wmpjpe100_mm": PAPER_MM,
        "note": CAPTION,
        "machine": machine_info(),
        "versions": versions(),
    }
    write_json(path, results)
    return results


def _others(folder: Path) -> dict[str, Any]:
    """Return what other benchmarks measured of perception, where their results lie beside these."""
    parts = {}
    for name, wanted in OTHER_RESULTS.items():
        if (folder / f"{name}.json").is_file():
            found = read_json(folder / f"{name}.json")
            figures = {figure: found["figures"][figure] for figure in wanted if figure in found["figures"]}
            parts[name] = {"command": found["command"], "figures": figures}
    return parts


def print_results(results: dict[str, Any], console: Console) -> None:
    """Print every clip and variant, the figures beside what is asked for, and the frames per second by stage."""
    clips = in_order(results)
    if clips:
        table = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=CAPTION)
        for title in ("clip", "recorded"):
            table.add_column(title, no_wrap=True)
        for _, title, _ in COLUMNS:
            # A title's unit goes below it, so that all columns have room.
            table.add_column("\n".join(title.rsplit(" ", 1)), justify="right", no_wrap=True)
        for clip, variants in clips.items():
            for index, (variant, found) in enumerate(variants.items()):
                table.add_row(clip if index == 0 else "", variant, *shown(found))
        console.print(table)
    console.print(figure_table(results))
    for what, error in results.get("failed", {}).items():
        console.print(f"failed: {what}: {error}", markup=False)
    for stage, fps in stage_rows(results):
        console.print(f"{stage}: {fps} time steps/s, both cameras", highlight=False)


def in_order(results: dict[str, Any]) -> Table:
    """Return the tables of the clips in the benchmark's order, which a JSON file does not keep."""
    found: Table = results.get("clips", {})
    return {
        clip: {name: found[clip][name] for name in VARIANTS if name in found[clip]} for clip in CLIPS if clip in found
    }


def shown(found: dict[str, float]) -> list[str]:
    """Return a row's cells, in COLUMNS' order."""
    return [form.format(found[name]) if name in found else "-" for name, _, form in COLUMNS]


def stage_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return rows of stage and time steps per second."""
    fps = results.get("stage_fps", {})
    return [[stage, f"{fps[stage]:.1f}"] for stage in STAGES if stage in fps]


def figure_rows(results: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return rows of name, measured, asked for, whether that holds, worst clip."""
    rows = []
    for figure in (*CLIP_FIGURES, *OTHER_FIGURES):
        value = results["figures"].get(figure.name)
        if value is None and figure.bound is None:
            continue
        asked = "" if figure.bound is None else f"{'>=' if figure.at_least else '<='} {figure.bound:g}"
        if value is None:
            rows.append((figure.name, "not measured", asked, "?", ""))
            continue
        lacking = results["lacking"].get(figure.name, [])
        verdict = "" if figure.bound is None else "yes" if figure.holds(value) and not lacking else "NO"
        worst = results["worst"].get(figure.name)
        told = f"{worst['clip']} {worst['value']:.4g}" if worst else ""
        told += f" (lacking: {', '.join(lacking)})" if lacking else ""
        rows.append((figure.name, f"{value:.4g}", asked, verdict, told))
    return rows


def figure_table(results: dict[str, Any]) -> RichTable:
    """Return the table of the figures."""
    table = RichTable("figure", "measured", "asked", "reached", "worst clip")
    for row in figure_rows(results):
        table.add_row(*row)
    return table


def write_page(results: dict[str, Any], path: Path, picture: str) -> None:
    """Write the page with the tables as Markdown.

    Args:
        results: The results.
        path: The page.
        picture: Address of the picture, seen from the page.
    """
    clips = in_order(results)
    head = ["clip", "recorded", *(title for _, title, _ in COLUMNS)]
    rows = [[clip, variant, *shown(found)] for clip, variants in clips.items() for variant, found in variants.items()]
    figures = [["figure", "measured", "asked", "reached", "worst clip"], *map(list, figure_rows(results))]
    stages = [["stage", "time steps/s"], *stage_rows(results)]
    text = _PAGE.format(
        caption=CAPTION,
        picture=picture,
        figures=_markdown(figures),
        clips=_markdown([head, *rows]),
        stages=_markdown(stages),
        machine=f"{results['machine']['cpu']}, {results['machine']['cores']} cores",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


_PAGE = """# Benchmark of perception

`make bench-perception` writes this page, `benchmarks/results/perception.json` and the picture. Machine: {machine}.

Eight synthetic clips with depth noise, each reconstructed in three ways: `single` has one camera without poses, `dual`
two cameras without poses whose clocks differ by 137 ms, `dual_calibrated` two cameras with poses and right clocks.
Figures of the first table are means over the clips, of `dual` where the name says nothing else.

{caption}

![W-MPJPE by clip]({picture})

{figures}

## By clip

{clips}

## Speed

Time steps per second of each stage, mean over the clips, `dual`; a time step has an image of each camera.

{stages}

## How it is measured

- W-MPJPE ("W") aligns the first two frames of each chunk of 100 (500) frames by a similarity, WA-MPJPE ("WA") the whole
  chunk; clips are shorter than 500 frames, so the long chunk is the whole clip. Root error is absolute, RTE is after a
  rigid alignment of the root's path, in percent of its length.
- Where poses are unknown, the found world differs from the true one by a rigid motion. It is taken from the cameras
  alone: their positions and the points 1 m along their axes are aligned, for the paths are too short to tell the turn
  from positions. The person is never aligned. Root error and the scene's measures come after this.
- ATE is the RMSE of the positions of all cameras together after one rigid alignment. Sync error is that of the found
  difference of the clocks.
- Contacts are those of eight body parts, F1 over all of them together. In truth a foot touches as planned, the other
  parts where their skin is within 1.5 cm of a surface and slower than 0.15 m/s. Foot skate is the horizontal speed of
  ankles whose foot stands in truth.
- In every clip the place where the person ends was free at some time: the clips walk up first. Who never leaves one
  spot is found too (docs/perception.md), but that is not what these clips measure.
- The scene counts where some camera could see it. Accuracy and completeness are median distances.
- Every reconstruction runs in a process of its own; its peak memory is the most that was resident. `peak_rss_gb` is
  that of 60 s of two cameras, 3600 frames: a clip played forth and back until 60 s are full, stamps going on.
"""
