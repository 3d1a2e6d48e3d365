"""The small stage and policy that the robot's tests share."""

from tests.policy.artifacts import policy_file, policy_path, stage

__all__ = ["policy_file", "policy_path", "stage"]
