"""The small stage and policy that the commands' tests share."""

from tests.policy.artifacts import policy_path, stage

__all__ = ["policy_path", "stage"]
