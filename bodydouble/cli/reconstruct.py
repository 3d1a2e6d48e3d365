"""`bodydouble reconstruct`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble reconstruct`."""
    from perception.reconstruct import ReconstructConfig, reconstruct

    @dataclass(frozen=True)
    class Options:
        recording: Path
        """The recording (.mcap)."""
        out: Path = Path("runs/reconstruction")
        """Folder of the reconstruction to write."""
        config: ReconstructConfig = field(default_factory=ReconstructConfig)
        """Options of the reconstruction."""

    options = parse(Options, argv, prog="reconstruct", description="Recording -> scene mesh and body motion in metres.")
    print(reconstruct(options.recording, options.out, options.config))
    return 0
