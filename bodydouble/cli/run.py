"""`bodydouble run`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble run`."""
    from robot.launch import RunConfig, run

    @dataclass(frozen=True)
    class Options:
        policy: Path
        """The policy (.onnx)."""
        stage: Path | None = None
        """Folder of the stage; without one the robot stands on a flat floor, for policies that follow no reference."""
        out: Path = Path("runs/run")
        """Folder of the run to write."""
        trusted: Path | None = None
        """Folder of the public keys (.pub) of known signers; a policy that none of them signed is refused."""
        config: RunConfig = field(default_factory=RunConfig)
        """Options of the run."""

    options = parse(
        Options, argv, prog="run", description="Run the policy under ROS 2 on the simulated robot, recorded."
    )
    config = options.config if options.trusted is None else replace(options.config, trusted=options.trusted)
    print(run(options.policy, options.stage, options.out, config))
    return 0
