"""`bodydouble replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse
from bodydouble.errors import InputError


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble replay`."""

    run: Path
    """Folder of the run, or its .mcap file; with --rate also a rosbag2 folder or any MCAP file of ROS 2."""
    policy: Path | None = None
    """The policy (.onnx) that ran."""
    stage: Path | None = None
    """Folder of the stage it ran on; policies that follow no reference need none."""
    out: Path | None = None
    """JSON to write the result to; one of the same run, policy and stage is not made again."""
    rate: float | None = None
    """Compare nothing, and publish the recorded ROS topics again with /clock, at so many times their own speed. What a
    robot obeys goes below `replayed/`."""


def main(argv: list[str]) -> int:
    """Run `bodydouble replay`: exit status 0 when no bit of any command differs."""
    options = parse(
        Options, argv, prog="replay",
        description="Feed a recorded run through the same code, bit for bit, or its topics back into ROS 2.",
    )  # fmt: skip
    if options.rate is not None:
        if options.policy or options.stage or options.out:
            raise InputError("--rate publishes topics and compares nothing; leave --policy, --stage and --out out")
        from robot.nodes.replayer_node import play

        print(f"{options.run}: {play(options.run, options.rate)} messages published")
        return 0
    if options.policy is None:
        raise InputError("name the policy that ran with --policy, or a speed with --rate to publish the topics")
    return _compare(options, options.policy)


def _compare(options: Options, policy: Path) -> int:
    from robot.replay import finished_report, replay

    recording = options.run / "run.mcap" if options.run.is_dir() else options.run
    out = options.out
    report = finished_report(out, recording, policy, options.stage) if out else None
    if report is None:
        report = replay(recording, policy, options.stage)
        if out is not None:
            report.save(out)
    print(report)
    return 0 if report.diff_bits == 0 else 1
