"""`bodydouble doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import ctypes.util
import importlib.util
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bodydouble.artifacts import machine_info, versions
from bodydouble.cli.options import parse
from bodydouble.errors import BodydoubleError

EXTRAS = {
    "robot": ("onnx", "onnxruntime"),
    "ros": ("rclpy", "sensor_msgs", "nav_msgs", "std_msgs", "std_srvs", "rosgraph_msgs", "diagnostic_msgs"),
    "sim": ("mujoco", "daqp", "gymnasium", "coacd"),
    "policy": ("torch", "safetensors", "onnxscript"),
    "perception": ("open3d", "anny"),
    "report": ("matplotlib", "jinja2", "rerun"),
    "gpu": ("warp", "mujoco_warp"),
}
"""Extra of pyproject.toml: the modules it must bring."""
SYSTEM_LIBRARIES = {"usb-1.0": "libusb-1.0-0", "EGL": "libegl1", "GL": "libgl1"}
"""Library: its Debian package."""
OPTIONAL_EXTRAS = ("gpu",)
"""Extras that nothing in the demo needs."""


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble doctor`."""

    licences: bool = False
    """Print the whole licence text of every robot, not its first line."""


def main(argv: list[str]) -> int:
    """Run `bodydouble doctor`: exit status 1 when something the demo needs is missing."""
    options = parse(Options, argv, prog="doctor", description="Check this machine.")
    console = Console()
    found = [(f"{key} {value}" if key != "cpu" else str(value)) for key, value in machine_info().items()]
    console.print(", ".join(found))
    table = Table("what", "state", "fix")
    missing = 0
    for name, version in versions().items():
        table.add_row(name, version, "")
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        needed = extra not in OPTIONAL_EXTRAS
        missing += bool(absent) and needed
        state = "ok" if not absent else f"{'missing' if needed else 'optional, absent'}: {', '.join(absent)}"
        fix = f"pip install 'bodydouble[{extra}]'" if absent else ""
        table.add_row(escape(f"extra [{extra}]"), escape(state), escape(fix))
    for library, package in SYSTEM_LIBRARIES.items():
        present = ctypes.util.find_library(library) is not None
        missing += not present
        table.add_row(f"lib{library}", "ok" if present else "missing", "" if present else f"apt-get install {package}")
    console.print(table)
    if importlib.util.find_spec("mujoco") is not None:
        missing += _print_robots(console, whole=options.licences)
    console.print("ready" if not missing else f"{missing} thing(s) missing")
    return 1 if missing else 0


def _print_robots(console: Console, *, whole: bool) -> int:
    from sim.robots.registry import robot_names, robot_spec

    table = Table("robot", "joints", "source", "licence")
    failed = 0
    texts = []
    for name in robot_names():
        try:
            robot = robot_spec(name)
        except BodydoubleError as error:
            failed += 1
            table.add_row(name, "-", str(error), "-")
            continue
        table.add_row(name, str(robot.num_joints), robot.source, robot.licence.splitlines()[0])
        texts.append(f"{name}\n{'-' * len(name)}\n{robot.licence}")
    console.print(table)
    if whole:
        console.print("\n\n".join(texts), markup=False)
    return failed
