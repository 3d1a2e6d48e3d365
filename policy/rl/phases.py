"""Where a training's time goes: named phases in a profiler's trace, and nothing at all without one."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bodydouble.artifacts import atomic_file, write_json

PHASES = {
    "simulate": "physics, observations, rewards; with actors: waiting for them",
    "infer": "actions of the policy",
    "value": "values of the states, for the advantages",
    "learn": "gradient steps",
    "normalise": "statistics of the observations",
}
"""The parts of an update, in their order."""
PROFILE_FILE, TRACE_FILE = "profile.json", "trace.json.gz"
_ROWS = 12
_active: Profile | None = None
_NOTHING = contextlib.nullcontext()


def phase(name: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context whose time is that of one of PHASES; it costs nothing where no profile is made."""
    return _NOTHING if _active is None else record_function(name)


class Profile:
    """Records a few updates with torch's profiler, after the first one, which also loads and compiles.

    It writes `trace.json.gz` (for chrome://tracing and ui.perfetto.dev), and `profile.json`: the seconds of each phase
    and the operators that took longest.
    """

    def __init__(self, folder: Path, updates: int = 2, skip: int = 1) -> None:
        """Prepare.

        Args:
            folder: Where to write.
            updates: Updates to record.
            skip: Updates before these.
        """
        self.folder = folder
        self._updates, self._skip, self._seen, self._begun = updates, skip, 0, 0.0
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=activities)
        self.done: str | None = None
        """The table, once it is written."""

    def __enter__(self) -> Profile:
        """Begin, unless updates are to be skipped."""
        self._begin_at(0)
        return self

    def __exit__(self, *error: object) -> None:
        """Write what was recorded."""
        self.close()

    def after_update(self) -> None:
        """Tell that an update was made."""
        self._seen += 1
        self._begin_at(self._seen)
        if self._seen == self._skip + self._updates:
            self.close()

    def _begin_at(self, seen: int) -> None:
        global _active
        if seen == self._skip:
            _active = self
            self._begun = time.perf_counter()
            self._profiler.start()

    def close(self) -> None:
        """Write what was recorded, if anything was; a training that ends early has recorded fewer updates."""
        global _active
        if _active is not self:
            return
        _active = None
        seconds = time.perf_counter() - self._begun
        self._profiler.stop()
        updates = min(self._seen - self._skip, self._updates)
        if updates:
            self._write(seconds, updates)

    def _write(self, seconds: float, updates: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / TRACE_FILE) as temporary:
            # The name decides whether it is compressed.
            packed = temporary.with_name(temporary.name + ".gz")
            self._profiler.export_chrome_trace(str(packed))
            packed.replace(temporary)
        events = self._profiler.key_averages()
        spent = {event.key: 1e-6 * event.cpu_time_total for event in events if event.key in PHASES}
        phases = {name: spent.get(name, 0.0) for name in PHASES}
        phases["rest"] = max(0.0, seconds - sum(phases.values()))
        operators = [
            {
                "name": event.key,
                "calls": event.count,
                "cpu_s": 1e-6 * event.self_cpu_time_total,
                "gpu_s": 1e-6 * event.self_device_time_total,
            }
            for event in events
            if event.key not in PHASES
        ]
        operators.sort(key=lambda row: -(row["cpu_s"] + row["gpu_s"]))
        write_json(
            self.folder / PROFILE_FILE,
            {"updates": updates, "seconds": seconds, "phases": phases, "operators": operators[:_ROWS]},
        )
        self.done = table(phases, updates)


def table(phases: dict[str, float], updates: int) -> str:
    """Return seconds and shares of the phases of some updates as text."""
    total = sum(phases.values())
    lines = [f"{updates} updates, {total / updates:.3f} s each"]
    texts = {**PHASES, "rest": "log, checkpoints, all else"}
    lines += [
        f"  {name:<10} {seconds / updates:8.3f} s  {100 * seconds / total:5.1f} %  {texts[name]}"
        for name, seconds in phases.items()
    ]
    return "\n".join(lines)
