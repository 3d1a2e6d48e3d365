from __future__ import annotations

from tests.policy.artifacts import policy_file, policy_path, stage

__all__ = ["policy_file", "policy_path", "stage"]
