"""One reconstruction in a process of its own, so that its peak memory is its own: measured, then evaluated."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bodydouble.artifacts import read_json, write_json
from bodydouble.errors import BodydoubleError


@dataclass(frozen=True)
class Task:
    """A reconstruction to measure."""

    recording: Path
    """The recording (.mcap)."""
    out: Path
    """Folder of the reconstruction."""
    measures: Path
    """JSON to write: `figures`, `inputs_hash` of the reconstruction, or `error`."""
    truth: Path | None = None
    """truth.npz to compare with; nothing is compared without."""


def peak_rss_gb() -> float:
    """Return the most memory this process ever held, GB (10^9 bytes).

    Read from /proc, since getrusage also counts what the parent held when it started this process.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("/proc/self/status has no VmHWM; peak memory can be measured on Linux only")


def measure(task: Task) -> None:
    """Reconstruct, unless it is done already, and write what was measured."""
    # Processes that track cameras import this module too, and need none of these.
    from perception.metrics import evaluate
    from perception.reconstruct import MANIFEST_FILE, reconstruct

    before = _measured(task) if task.out.is_dir() else None
    done = reconstruct(task.recording, task.out)
    now = read_json(task.out / MANIFEST_FILE)["provenance"]["inputs_hash"]
    # A reconstruction that was there already took its memory and its time in an earlier process.
    kept = before is not None and before["inputs_hash"] == now
    used = {"peak_rss_gb": peak_rss_gb(), "cpu_s": time.process_time()}
    if kept and before:
        used = {name: before["figures"][name] for name in used if name in before["figures"]}
    figures = dict(done.figures) | used
    if task.truth is not None:
        figures |= evaluate(task.out, task.truth)
    write_json(task.measures, {"figures": figures, "inputs_hash": now, "warnings": list(done.warnings)})


def _measured(task: Task) -> dict | None:
    if not task.measures.is_file():
        return None
    found = read_json(task.measures)
    return found if "inputs_hash" in found else None


def main(argv: list[str]) -> int:
    """Run a task given as RECORDING OUT MEASURES [TRUTH]."""
    paths = [Path(text) for text in argv]
    task = Task(*paths)
    try:
        measure(task)
    except BodydoubleError as error:
        message = " ".join(str(error).split())
        write_json(task.measures, {"error": message})
        print(f"error: {message}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
