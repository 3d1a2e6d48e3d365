"""`bodydouble export-lerobot`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import parse


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble export-lerobot`."""

    run: tuple[Path, ...]
    """Folders of the runs, or their .mcap files; one episode each."""
    policy: Path
    """The policy (.onnx) that ran."""
    out: Path = Path("runs/lerobot")
    """Folder of the dataset to write."""
    task: str = "repeat the recorded scene"
    """What the robot does, in words."""


def main(argv: list[str]) -> int:
    """Run `bodydouble export-lerobot`."""
    from robot.lerobot_export import export_lerobot

    options = parse(Options, argv, prog="export-lerobot", description="Recorded runs -> LeRobot dataset (v3.0).")
    print(export_lerobot(options.run, options.policy, options.out, options.task))
    return 0
