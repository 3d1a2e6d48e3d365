"""`bodydouble stage`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble stage`."""
    from sim.stage.builder import StageConfig, build_stage

    @dataclass(frozen=True)
    class Options:
        reconstruction: Path
        """Folder of the reconstruction."""
        out: Path = Path("runs/stage")
        """Folder of the stage to write."""
        config: StageConfig = field(default_factory=StageConfig)
        """Options of the stage."""

    options = parse(Options, argv, prog="stage", description="Reconstruction -> MuJoCo stage and robot reference.")
    print(build_stage(options.reconstruction, options.out, options.config))
    return 0
