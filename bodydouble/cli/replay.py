"""`bodydouble replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble replay`."""

    run: Path
    """Folder of the run, or its .mcap file."""
    policy: Path
    """The policy (.onnx) that ran."""
    stage: Path | None = None
    """Folder of the stage it ran on; policies that follow no reference need none."""
    out: Path | None = None
    """JSON to write the result to; one of the same run, policy and stage is not made again."""


def main(argv: list[str]) -> int:
    """Run `bodydouble replay`: exit status 0 when no bit of any command differs."""
    from robot.replay import finished_report, replay

    options = parse(Options, argv, prog="replay", description="Feed a recorded run through the same code, bit for bit.")
    recording = options.run / "run.mcap" if options.run.is_dir() else options.run
    out = options.out
    report = finished_report(out, recording, options.policy, options.stage) if out else None
    if report is None:
        report = replay(recording, options.policy, options.stage)
        if out is not None:
            report.save(out)
    print(report)
    return 0 if report.diff_bits == 0 else 1
