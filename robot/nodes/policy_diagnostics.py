"""What the policy's node says of itself once a second: rhythm, inputs, interventions."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from robot.runtime import PolicyRuntime, TickResult

WINDOW = 500
"""Ticks that the percentiles are taken over."""


@dataclass
class TickStatistics:
    """Counts of one configured policy; written by the control thread, read by the executor's."""

    ticks: int = 0
    """Ticks so far."""
    missed: int = 0
    """Deadlines that were skipped."""
    durations_ms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Durations of the last ticks, ms."""
    interventions: Counter[str] = field(default_factory=Counter)
    """Number of ticks by reason of intervention."""
    mode: str = "starting"
    """Mode of the last tick."""

    def add(self, result: TickResult, duration_ms: float) -> None:
        """Count a tick."""
        self.ticks += 1
        self.durations_ms.append(duration_ms)
        self.mode = result.mode
        self.interventions.update({reason(event) for event in result.events})


def reason(event: str) -> str:
    """Return the reason of an event without its details: `slew: hip, knee` is for slew."""
    return event.partition(":")[0]


def diagnostic_status(name: str, runtime: PolicyRuntime, statistics: TickStatistics, active: bool) -> DiagnosticStatus:
    """Return the status: ERROR while stopped, WARN while not active, values by name."""
    stopped = runtime.safety.stopped
    status = DiagnosticStatus(name=name, hardware_id=runtime.contract.robot)
    if stopped:
        status.level, status.message = DiagnosticStatus.ERROR, f"stopped: {runtime.safety.stop_reason}"
    elif not active:
        status.level, status.message = DiagnosticStatus.WARN, "inactive"
    else:
        status.level, status.message = DiagnosticStatus.OK, statistics.mode
    times = np.array(list(statistics.durations_ms) or [0.0])
    values = {
        "tick_p50_ms": f"{np.percentile(times, 50):.3f}",
        "tick_p99_ms": f"{np.percentile(times, 99):.3f}",
        "tick_max_ms": f"{times.max():.3f}",
        "ticks": str(statistics.ticks),
        "missed_ticks": str(statistics.missed),
        "interventions": str(sum(statistics.interventions.values())),
    }
    now = time.time_ns()
    values |= {f"{source}_age_ms": f"{(now - stamp) / 1e6:.1f}" for source, stamp in runtime.stamps.items()}
    values |= {f"interventions.{key}": str(count) for key, count in sorted(statistics.interventions.items())}
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    return status
