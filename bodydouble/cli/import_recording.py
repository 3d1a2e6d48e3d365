"""`bodydouble import rosbag|mcap|tum|7scenes|record3d|folder`."""

from dataclasses import dataclass, field
from pathlib import Path

from bodydouble.cli.options import choose, parse


def main(argv: list[str]) -> int:
    """Run `bodydouble import`."""
    actions = {
        "rosbag": _rosbag,
        "mcap": _rosbag,
        "tum": _tum,
        "7scenes": _sevenscenes,
        "record3d": _record3d,
        "folder": _folder,
    }
    return choose("import", actions, argv)


def _rosbag(argv: list[str]) -> int:
    """Run `import rosbag` or `import mcap`: what the source is, is told by its content."""
    from perception.importers.rosbag import RosbagConfig, import_rosbag

    @dataclass(frozen=True)
    class Options:
        source: Path
        """A rosbag2 folder (sqlite3 or MCAP), one of its storage files, or an MCAP file of others."""
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: RosbagConfig = field(default_factory=RosbagConfig)
        """Options of the import."""

    options = parse(
        Options, argv, prog="import rosbag", description="rosbag2 or MCAP with RGB-D topics -> recording; needs no ROS."
    )
    print(import_rosbag(options.source, options.out, options.config))
    return 0


def _tum(argv: list[str]) -> int:
    from perception.importers.tum import TumConfig, import_tum

    @dataclass(frozen=True)
    class Options:
        folder: Path
        """Folder with rgb.txt, depth.txt and groundtruth.txt."""
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: TumConfig = field(default_factory=TumConfig)
        """Options of the import."""

    options = parse(Options, argv, prog="import tum", description="TUM RGB-D folder -> recording.")
    print(import_tum(options.folder, options.out, options.config))
    return 0


def _sevenscenes(argv: list[str]) -> int:
    from perception.importers.sevenscenes import SevenScenesConfig, import_sevenscenes

    @dataclass(frozen=True)
    class Options:
        folder: Path
        """Folder with frame-XXXXXX.color, .depth and .pose files."""
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: SevenScenesConfig = field(default_factory=SevenScenesConfig)
        """Options of the import."""

    options = parse(Options, argv, prog="import 7scenes", description="7-Scenes folder -> recording.")
    print(import_sevenscenes(options.folder, options.out, options.config))
    return 0


def _record3d(argv: list[str]) -> int:
    from perception.importers.record3d import Record3dConfig, import_record3d

    @dataclass(frozen=True)
    class Options:
        source: Path
        """The .r3d file."""
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: Record3dConfig = field(default_factory=Record3dConfig)
        """Options of the import."""

    options = parse(Options, argv, prog="import record3d", description="Record3D .r3d file -> recording.")
    print(import_record3d(options.source, options.out, options.config))
    return 0


def _folder(argv: list[str]) -> int:
    from perception.importers.image_folder import ImageFolderConfig, import_image_folder

    @dataclass(frozen=True)
    class Options:
        folder: Path
        """Folder with the folders depth and color, an intrinsics file, and poses where there are any."""
        out: Path
        """Recording to write, e.g. recording.mcap."""
        config: ImageFolderConfig = field(default_factory=ImageFolderConfig)
        """Options of the import."""

    options = parse(Options, argv, prog="import folder", description="Colour and depth images -> recording.")
    print(import_image_folder(options.folder, options.out, options.config))
    return 0
