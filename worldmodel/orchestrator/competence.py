"""Competence: how sure it is that a skill succeeds, as a Beta distribution over what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Competence:
    """Successes and failures of a skill, on top of one of each that nobody saw (the uniform prior)."""

    successes: float = 0.0
    """Successes seen."""
    failures: float = 0.0
    """Failures seen."""

    @property
    def mean(self) -> float:
        """Expected rate of success."""
        return (1.0 + self.successes) / (2.0 + self.successes + self.failures)

    def after(self, success: bool) -> Competence:
        """Return the competence after one more trial."""
        return Competence(self.successes + success, self.failures + (not success))
