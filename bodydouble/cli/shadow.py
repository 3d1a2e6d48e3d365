"""`bodydouble shadow`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import parse


def main(argv: list[str]) -> int:
    """Run `bodydouble shadow`."""
    from robot.shadow import ShadowConfig, shadow

    @dataclass(frozen=True)
    class Options:
        recording: Path
        """An MCAP file or a rosbag2 folder (sqlite3 or MCAP) with JointState and Imu topics."""
        policy: Path
        """The policy (.onnx)."""
        stage: Path | None = None
        """Folder of the stage whose reference the policy follows; policies that follow none need none."""
        out: Path = Path("runs/shadow")
        """Folder to write shadow.mcap, shadow.json and shadow.png into."""
        config: ShadowConfig = field(default_factory=ShadowConfig)
        """How the recording is read."""

    options = parse(
        Options, argv, prog="shadow", description="What would a policy have commanded on a recording? Nothing is sent."
    )
    print(shadow(options.recording, options.policy, options.out, options.stage, options.config))
    return 0
