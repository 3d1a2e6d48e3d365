"""`bodydouble retarget`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble retarget`."""
    from sim.retarget.pipeline import PipelineConfig, retarget_file

    @dataclass(frozen=True)
    class Options:
        motion: Annotated[Path, tyro.conf.Positional]
        """BVH file, LAFAN1 csv, holosoma npy or npz, UTD-MHAD mat, or a motion of this project (npz)."""
        robot: str = "unitree_g1"
        """A robot's name, or the path of an MJCF file or of a mapping file."""
        out: Path = Path("runs/retarget")
        """Folder to write: reference motion, figures, and a stage with them."""
        config: PipelineConfig = field(default_factory=PipelineConfig)
        """Options of the retargeting."""

    options = parse(Options, argv, prog="retarget", description="Motion file -> a robot's reference motion and stage.")
    print(retarget_file(options.motion, options.robot, options.out, options.config))
    return 0
