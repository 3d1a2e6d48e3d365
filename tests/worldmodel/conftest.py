from __future__ import annotations

import pytest

from robot.policy_file import PolicyFile
from sim.stage.stage import Stage
from tests.policy.artifacts import policy_file, policy_path, stage
from worldmodel.orchestrator.rehearsal import Rehearsal

__all__ = ["policy_file", "policy_path", "stage"]


@pytest.fixture(scope="session")
def rehearsal(stage: Stage, policy_file: PolicyFile) -> Rehearsal:
    return Rehearsal(stage, policy_file)
