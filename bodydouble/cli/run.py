"""`bodydouble run`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble run`."""
    from robot.launch import RunConfig, run

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """The policy (.onnx)."""
        stage: Path
        """Folder of the stage."""
        out: Path = Path("runs/run")
        """Folder of the run to write."""
        config: RunConfig = field(default_factory=RunConfig)
        """Options of the run."""

    options = parse(
        Options, argv, prog="run", description="Run the policy under ROS 2 on the simulated robot, recorded."
    )
    print(run(options.policy, options.stage, options.out, options.config))
    return 0
