"""ROS domains of the tests: no two that may run at the same time share one."""

from __future__ import annotations

import os
import zlib

USERS = (
    "faults",
    "orchestrator",
    "playback",
    "policy_node",
    "record_ros",
    "recorder_best_effort",
    "recorder_disk_full",
    "run",
)
"""Who asks for a domain."""
_DOMAINS = 100
"""Domains whose ports lie below Linux's range of ephemeral ports: 1 to 100."""


def ros_domain(user: str) -> int:
    """Return the domain of one user of USERS in this process of the test run.

    Processes of one run (pytest-xdist) have ranges of their own; runs side by side begin at different places.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    place = zlib.crc32(run.encode()) + len(USERS) * int(worker.removeprefix("gw")) + USERS.index(user)
    return 1 + place % _DOMAINS
