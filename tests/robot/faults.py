"""The fault table: what can go wrong, and where each row's measured outcome is written.

A test that proves a row calls `fault_log.passed("name", "outcome in words", figure=1.0)` as its last line. With the
environment variable BODYDOUBLE_FAULTS set to a folder the outcomes are kept there, one JSON file per row:

    BODYDOUBLE_FAULTS=/tmp/faults pytest tests/robot
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "BODYDOUBLE_FAULTS"
"""Environment variable that names the folder of the outcomes."""
FAULTS: dict[str, str] = {
    "policy_killed": "policy process killed",
    "robot_killed": "robot process killed and restarted",
    "recorder_killed": "recorder process killed",
    "inputs_stop": "inputs stop",
    "inputs_nan": "inputs with NaN",
    "inputs_wrong_order": "inputs with the joints in another order",
    "inputs_missing_joint": "inputs with a missing joint",
    "inputs_time_backwards": "inputs with time going backwards",
    "clock_jump": "clock jumps",
    "onnx_truncated": "ONNX file truncated",
    "onnx_flipped": "ONNX file with flipped bytes",
    "onnx_swapped_joints": "ONNX file with swapped joints",
    "onnx_unsigned": "ONNX file unsigned where signing is required",
    "emergency_stop": "emergency stop",
    "disk_full": "disk full while recording",
    "packet_loss": "5 % packet loss",
}
"""Every row of the table, by name."""


class FaultLog:
    """Writes the outcome of each row that was proven."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def passed(self, name: str, outcome: str, **figures: float) -> None:
        """Write that a row holds: what came of the fault, in words and figures."""
        row = {"fault": FAULTS[name], "outcome": outcome, "figures": figures}
        (self._folder / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")


def outcomes(folder: Path) -> dict[str, Any]:
    """Return faults_passed, faults_total and the rows that a run of the tests left in a folder."""
    rows = {name: json.loads(path.read_text()) for name in FAULTS if (path := folder / f"{name}.json").is_file()}
    return {"faults_passed": len(rows), "faults_total": len(FAULTS), "rows": rows}
