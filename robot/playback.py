"""When each message of a recorded run is due again: the run's own rhythm, at any rate, with a clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bodydouble.errors import InputError
from bodydouble.recording.reader import SerializedMessage

CLOCK_PERIOD_NS = 10_000_000
"""Time of the recording between two messages of the clock, ns."""


class Due(NamedTuple):
    """What to do next."""

    at_s: float
    """Time since the playback's start, s."""
    clock_ns: int
    """Time of the recording, ns."""
    message: SerializedMessage | None
    """Message to publish; None: only the clock."""


def check_rate(rate: float) -> None:
    """Raise InputError where a rate is not positive."""
    if not 0 < rate < float("inf"):
        raise InputError(f"rate is {rate}, expected a positive number")


def playback(messages: Iterable[SerializedMessage], rate: float) -> Iterator[Due]:
    """Yield a recording's messages and the clock's, in order.

    Args:
        messages: Messages in the order of log time.
        rate: Speed, in units of the recording's own time.

    Raises:
        InputError: The rate is not positive.
    """
    check_rate(rate)
    start: int | None = None
    tick = 0
    for message in messages:
        t_ns = message.log_time_ns
        if start is None:
            start = tick = t_ns
        while tick <= t_ns:
            yield Due((tick - start) * 1e-9 / rate, tick, None)
            tick += CLOCK_PERIOD_NS
        yield Due((t_ns - start) * 1e-9 / rate, t_ns, message)
