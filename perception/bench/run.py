"""The synthetic part of the benchmark: every clip in every variant, resumable, one process per reconstruction."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError
from perception.bench.clips import CLIPS, clip_config
from perception.bench.variants import RECORDING_FILE, TRUTH_FILE, VARIANTS, write_variant
from perception.synthetic.generate import generate

QUICK_CLIPS = ("reach", "sit")
"""Clips of the quick run."""
QUICK_SECONDS = 4.0
"""Length of its clips, s."""


@dataclass(frozen=True)
class SyntheticRun:
    """Which clips are measured, and where their files go."""

    work: Path = Path("runs/bench/perception")
    """Folder for recordings and reconstructions; what is finished there is kept."""
    clips: tuple[str, ...] = CLIPS
    """Names of the clips."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Ways in which each is recorded."""
    seconds: float = 60.0
    """Each clip is cut here, s."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the images, pixels."""
    again: bool = False
    """Whether finished reconstructions are made again; recordings are kept."""


Table = dict[str, dict[str, dict[str, float]]]
"""Figures by clip, variant and name."""


def run_synthetic(run: SyntheticRun) -> tuple[Table, dict[str, str]]:
    """Record, reconstruct and compare every clip in every variant.

    Args:
        run: Clips, variants, folder.

    Returns:
        Figures by clip, variant and name; what went wrong, by "clip variant", where a reconstruction failed.

    Raises:
        InputError: A clip or a variant is not known.
    """
    unknown = [name for name in run.variants if name not in VARIANTS]
    if unknown:
        raise InputError(f"no variant {unknown[0]!r}; the benchmark has {', '.join(VARIANTS)}")
    configs = {name: clip_config(name, seconds=run.seconds, size=run.size) for name in run.clips}
    console = Console(stderr=True)
    table: Table = {}
    failed: dict[str, str] = {}
    progress = Progress(console, len(run.clips) * (1 + len(run.variants)))
    for clip, config in configs.items():
        folder = run.work / clip
        generate(config, folder / "recording")
        progress.done(f"{clip}: recorded")
        table[clip] = {}
        for name in run.variants:
            recorded = variant_folder(folder, name)
            measures = folder / f"{name}.json"
            if run.again and (folder / name).is_dir():
                shutil.rmtree(folder / name)
            run_child(recorded / RECORDING_FILE, folder / name, measures, recorded / TRUTH_FILE)
            found = read_json(measures)
            if "error" in found:
                failed[f"{clip} {name}"] = found["error"]
                progress.done(f"{clip} {name}: {found['error']}")
            else:
                table[clip][name] = found["figures"]
                progress.done(f"{clip} {name}: {_told(found['figures'])}")
    return table, failed


def variant_folder(folder: Path, name: str) -> Path:
    """Return the folder with a clip's recording in a variant; the one that is recorded fully is not copied."""
    variant = VARIANTS[name]
    if variant.poses and not variant.ahead_s:
        return folder / "recording"
    out = folder / f"{name}_recording"
    write_variant(folder / "recording", variant, out)
    return out


def run_child(recording: Path, out: Path, measures: Path, truth: Path | None = None) -> None:
    """Reconstruct, measure and compare in another process; `measures` holds figures or an error afterwards.

    Raises:
        InputError: The process ended without saying why, as when the system stops it for its memory.
    """
    argv = [recording, out, measures, *([truth] if truth is not None else [])]
    command = [sys.executable, "-m", "perception.bench.child", *map(str, argv)]
    code = subprocess.run(command, check=False).returncode
    if code < 0 or (code != 0 and "error" not in (read_json(measures) if measures.is_file() else {})):
        raise InputError(
            f"{recording}: the reconstruction's process ended with status {code}; its message stands above"
        )


def _told(figures: dict[str, float]) -> str:
    shown = (("wmpjpe100_mm", "W-MPJPE {:.0f} mm"), ("ate_m", "ATE {:.3f} m"), ("scene_fscore_5cm", "F-score {:.3f}"))
    parts = [text.format(figures[name]) for name, text in shown if name in figures]
    return ", ".join([*parts, f"{figures['frames_per_s']:.1f} frames/s"])


class Progress:
    """Says after each step what was done, how far it is, and how long the rest takes if it goes on like this."""

    def __init__(self, console: Console, total: int):
        """Begin to count time."""
        self._console, self._total, self._count = console, total, 0
        self._begun = time.monotonic()

    def done(self, text: str) -> None:
        """Count a step and print a line."""
        self._count += 1
        passed = time.monotonic() - self._begun
        left = passed / self._count * (self._total - self._count)
        self._console.print(
            f"[{self._count}/{self._total}] {text} ({passed / 60:.1f} min, about {left / 60:.0f} min left)",
            markup=False,
            highlight=False,
        )


def quick(work: Path, *, again: bool = False) -> SyntheticRun:
    """Return a short run: two clips of four seconds."""
    return SyntheticRun(work=work, clips=QUICK_CLIPS, seconds=QUICK_SECONDS, again=again)
