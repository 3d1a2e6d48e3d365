"""`bodydouble record synthetic|ros`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import choose, parse


def main(argv: list[str]) -> int:
    """Run `bodydouble record`."""
    return choose("record", {"synthetic": _synthetic, "ros": _ros}, argv)


def _synthetic(argv: list[str]) -> int:
    from perception.synthetic.generate import SyntheticConfig, generate

    @dataclass(frozen=True)
    class Options:
        out: Path = Path("runs/recording")
        """Folder to write recording.mcap and truth.npz into."""
        config: SyntheticConfig = field(default_factory=SyntheticConfig)
        """Options of the recording."""

    options = parse(
        Options, argv, prog="record synthetic", description="A furnished room, an acting person, two cameras."
    )
    print(generate(options.config, options.out))
    return 0


def _ros(argv: list[str]) -> int:
    from perception.live.record_ros import RosRecordConfig, record_ros

    @dataclass(frozen=True)
    class Options:
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: RosRecordConfig = field(default_factory=RosRecordConfig)
        """Options of the recording."""

    options = parse(
        Options, argv, prog="record ros", description="Record RGB-D camera topics until the time is up or Ctrl-C."
    )
    print(record_ros(options.out, options.config))
    return 0
