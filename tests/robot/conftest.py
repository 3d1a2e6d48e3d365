"""The small stage and policy that the robot's tests share, and the log of the fault table."""

import os
from pathlib import Path

import pytest

from tests.policy.artifacts import policy_file, policy_path, stage
from tests.robot.faults import FOLDER_VARIABLE, FaultLog

__all__ = ["fault_log", "policy_file", "policy_path", "stage"]


@pytest.fixture(scope="session")
def fault_log(tmp_path_factory: pytest.TempPathFactory) -> FaultLog:
    folder = os.environ.get(FOLDER_VARIABLE)
    return FaultLog(Path(folder) if folder else tmp_path_factory.mktemp("faults"))
