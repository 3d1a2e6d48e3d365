"""The small stage that the nodes' tests share."""

from tests.policy.artifacts import stage

__all__ = ["stage"]
