from __future__ import annotations

from tests.policy.artifacts import stage

__all__ = ["stage"]
